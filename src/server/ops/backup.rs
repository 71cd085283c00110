//! A copy of everything, taken while the server runs, and proved before it is called good.
//!
//! The archive (tar, zstd) holds `manifest.json`, `database.jsonl` (every row of every table, read in one
//! transaction; so a copy of SQLite may be restored into PostgreSQL and the other way round), and the files of
//! [`DIRECTORIES`]. The key of the secrets is left out unless it is asked for.

use crate::server::config::Config;
use crate::server::db::{Db, now, tables};
use crate::server::{Answer, App};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};
use sqlx::any::{AnyRow, AnyTypeInfoKind};
use sqlx::{AssertSqlSafe, Column, Row, ValueRef};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// What is copied of the data directory beside the database. Mirrors and work trees are fetched again.
const DIRECTORIES: &[&str] = &["logs", "blobs", "deployments", "home/projects"];
const KEY: &str = "key";
const DATABASE: &str = "database.jsonl";
const MANIFEST: &str = "manifest.json";
const LEVEL: i32 = 3;

/// What an archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form: 1.
    pub format: u32,
    /// Of `ci`.
    pub version: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// By table: rows, and SHA-256 of their lines.
    pub tables: BTreeMap<String, Table>,
    /// Files beside the database.
    pub files: u64,
    /// Is the key of the secrets in it?
    pub key: bool,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// How many rows.
    pub rows: u64,
    /// SHA-256 of the lines.
    pub sha256: String,
}

/// Copies everything into `to`, then restores the copy's database elsewhere and compares.
///
/// # Errors
/// Something can't be read or written, or the copy is not the same; nothing is left at `to` then.
pub async fn backup(config: &Config, to: &Path, with_key: bool) -> io::Result<Manifest> {
    let db = Db::open(&config.database_url()).await.map_err(|e| failed("opening the database", e))?;
    let mut rows = NamedTempFile::new_in(&config.data)?;
    let mut manifest = Manifest {
        format: 1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: jiff::Timestamp::now().to_string(),
        key: with_key,
        ..Manifest::default()
    };
    manifest.tables = dump(&db, rows.as_file_mut()).await.map_err(|e| failed("reading the database", e))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = NamedTempFile::new_in(parent)?;
    manifest.files = pack(config, &manifest, rows.path(), part.as_file())?;
    prove(part.path(), &manifest).await?;
    part.persist(to).map_err(|e| e.error)?;
    Ok(manifest)
}

/// Notes when the last backup was made.
///
/// # Errors
/// The database does not answer.
pub async fn remember(app: &App) -> Answer<()> {
    let text = "INSERT INTO meta (key, value) VALUES ('backup', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    sqlx::query(text).bind(now().to_string()).execute(&app.db.pool).await?;
    Ok(())
}

/// Unpacks an archive into a data directory and a database that are both empty.
///
/// # Errors
/// They are not, the archive is damaged, or there is no room.
pub async fn restore(archive: &Path, config: &Config) -> io::Result<Manifest> {
    let data = &config.data;
    fs::create_dir_all(data)?;
    if fs::read_dir(data)?.next().is_some() {
        let text = format!("`{}` is not empty: restore into a new directory", data.display());
        return Err(io::Error::other(text));
    }
    let manifest = manifest(archive)?;
    let mut input = open(archive)?;
    for entry in input.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        match path.to_str() {
            Some(MANIFEST | DATABASE) => {}
            Some(KEY) => {
                entry.unpack_in(data)?;
            }
            Some(name) if DIRECTORIES.iter().any(|directory| name.starts_with(directory)) => {
                entry.unpack_in(data)?;
            }
            _ => return Err(io::Error::other(format!("`{}` is not of a backup", path.display()))),
        }
    }
    let db = Db::open(&config.database_url()).await.map_err(|e| failed("making the database", e))?;
    fill(&db, archive).await?;
    compare(&db, &manifest).await?;
    Ok(manifest)
}

fn failed(doing: &str, error: sqlx::Error) -> io::Error {
    io::Error::other(format!("{doing}: {error}"))
}

/// Every row of every table, a line each.
async fn dump(db: &Db, out: &mut File) -> Result<BTreeMap<String, Table>, sqlx::Error> {
    let mut out = BufWriter::new(out);
    let begin = if db.is_sqlite() { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" };
    let mut tx = db.pool.begin_with(begin).await?;
    let mut found = BTreeMap::new();
    for table in tables() {
        let query = AssertSqlSafe(format!("SELECT * FROM {table} ORDER BY 1, 2"));
        let mut rows = sqlx::query(query).fetch(&mut *tx);
        let (mut digest, mut count) = (Sha256::new(), 0);
        while let Some(row) = rows.try_next().await? {
            let line = format!("{}\n", json!({ "table": table, "row": values(&row)? }));
            digest.update(line.as_bytes());
            out.write_all(line.as_bytes())?;
            count += 1;
        }
        let sha256 = crate::digest::hex(&digest.finalize());
        found.insert(table.to_owned(), Table { rows: count, sha256 });
    }
    out.flush()?;
    Ok(found)
}

/// A row as JSON: numbers, texts, and `{"base64": …}`.
fn values(row: &AnyRow) -> Result<Map<String, Json>, sqlx::Error> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut map = Map::new();
    for (index, column) in row.columns().iter().enumerate() {
        let value = row.try_get_raw(index)?;
        let value = match (value.is_null(), column.type_info().kind()) {
            (true, _) => Json::Null,
            (_, AnyTypeInfoKind::Text) => row.try_get::<String, _>(index)?.into(),
            (_, AnyTypeInfoKind::Blob) => {
                json!({ "base64": STANDARD.encode(row.try_get::<Vec<u8>, _>(index)?) })
            }
            _ => row.try_get::<i64, _>(index)?.into(),
        };
        map.insert(column.name().to_owned(), value);
    }
    // the two databases need not give columns in the same order
    map.sort_keys();
    Ok(map)
}

fn pack(config: &Config, manifest: &Manifest, rows: &Path, to: &File) -> io::Result<u64> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(to, LEVEL)?);
    archive.append_path_with_name(rows, DATABASE)?;
    let mut files = 0;
    for directory in DIRECTORIES {
        let mut open = vec![PathBuf::from(directory)];
        while let Some(directory) = open.pop() {
            let Ok(entries) = fs::read_dir(config.data.join(&directory)) else { continue };
            for entry in entries {
                let entry = entry?;
                let name = directory.join(entry.file_name());
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    open.push(name);
                } else if kind.is_file() && append(&mut archive, &entry.path(), &name)? {
                    files += 1;
                }
            }
        }
    }
    if manifest.key {
        append(&mut archive, &config.data.join(KEY), Path::new(KEY))?;
    }
    let text = serde_json::to_vec_pretty(&Manifest { files, ..manifest.clone() })?;
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, MANIFEST, text.as_slice())?;
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(files)
}

/// A file as long as it is now: a log may grow meanwhile. False: it is gone.
fn append(archive: &mut tar::Builder<impl Write>, path: &Path, name: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let about = file.metadata()?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&about);
    header.set_size(about.len());
    archive.append_data(&mut header, name, file.take(about.len()))?;
    Ok(true)
}

fn open(archive: &Path) -> io::Result<tar::Archive<impl Read>> {
    let file = File::open(archive)
        .map_err(|e| io::Error::new(e.kind(), format!("opening `{}`: {e}", archive.display())))?;
    Ok(tar::Archive::new(zstd::Decoder::new(file)?))
}

fn manifest(archive: &Path) -> io::Result<Manifest> {
    for entry in open(archive)?.entries()? {
        let entry = entry?;
        if entry.path()?.to_str() == Some(MANIFEST) {
            return Ok(serde_json::from_reader(entry)?);
        }
    }
    Err(io::Error::other(format!("`{}` is no backup, or was cut short", archive.display())))
}

/// Restores the database of the archive into a new one and compares.
async fn prove(archive: &Path, manifest: &Manifest) -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let url = format!("sqlite:{}?mode=rwc", dir.path().join("proof.db").display());
    let db = Db::open(&url).await.map_err(|e| failed("making a database to prove the backup", e))?;
    fill(&db, archive).await?;
    compare(&db, manifest).await
}

async fn compare(db: &Db, manifest: &Manifest) -> io::Result<()> {
    let mut nowhere = tempfile::tempfile()?;
    let found = dump(db, &mut nowhere).await.map_err(|e| failed("reading the restored database", e))?;
    for (table, expected) in &manifest.tables {
        if found.get(table) != Some(expected) {
            return Err(io::Error::other(format!("table `{table}` is not the same after it was restored")));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Line {
    table: String,
    row: Map<String, Json>,
}

async fn fill(db: &Db, archive: &Path) -> io::Result<()> {
    let mut input = open(archive)?;
    for entry in input.entries()? {
        let entry = entry?;
        if entry.path()?.to_str() != Some(DATABASE) {
            continue;
        }
        let mut tx = db.write().await.map_err(|e| failed("filling the database", e))?;
        let known = tables();
        // a new database has a few rows of its own
        for table in known.iter().rev() {
            let text = AssertSqlSafe(format!("DELETE FROM {table}"));
            sqlx::query(text).execute(&mut *tx).await.map_err(|e| failed("emptying the database", e))?;
        }
        for line in BufReader::new(entry).lines() {
            let Line { table, row } = serde_json::from_str(&line?)?;
            let sound = |name: &String| {
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            };
            // names become part of a statement
            if !known.contains(&table.as_str()) || !row.keys().all(sound) {
                return Err(io::Error::other(format!(
                    "the backup has a table `{table}` that this `ci` does not know"
                )));
            }
            insert(&mut tx, &table, &row).await?;
        }
        if !db.is_sqlite() {
            go_on_counting(&mut tx).await.map_err(|e| failed("setting the next numbers", e))?;
        }
        return tx.commit().await.map_err(|e| failed("filling the database", e));
    }
    Err(io::Error::other(format!("`{}` has no database in it", archive.display())))
}

async fn insert(tx: &mut crate::server::db::Tx, table: &str, row: &Map<String, Json>) -> io::Result<()> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let names: Vec<&str> = row.keys().map(String::as_str).collect();
    // a null has no type of its own, and so no place
    let mut number = 0;
    let mut place = |value: &Json| {
        if value.is_null() {
            return "NULL".to_owned();
        }
        number += 1;
        format!("${number}")
    };
    let places: Vec<String> = row.values().map(&mut place).collect();
    let text = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), places.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(text));
    for value in row.values() {
        query = match value {
            Json::Null => query,
            Json::String(text) => query.bind(text.clone()),
            Json::Object(map) => {
                let text = map.get("base64").and_then(Json::as_str).unwrap_or_default();
                query.bind(STANDARD.decode(text).map_err(io::Error::other)?)
            }
            number => query.bind(number.as_i64().unwrap_or_default()),
        };
    }
    query.execute(&mut **tx).await.map_err(|e| failed(&format!("filling table `{table}`"), e))?;
    Ok(())
}

/// PostgreSQL's automatic numbers go on behind the highest that was restored.
async fn go_on_counting(tx: &mut crate::server::db::Tx) -> Result<(), sqlx::Error> {
    let text = "SELECT CAST(table_name AS TEXT) FROM information_schema.columns \
                WHERE table_schema = current_schema() AND column_name = 'id' AND is_identity = 'YES'";
    let counted: Vec<(String,)> = sqlx::query_as(text).fetch_all(&mut **tx).await?;
    for (table,) in counted.iter().filter(|(table,)| tables().contains(&table.as_str())) {
        let text = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM {table}), false)"
        );
        sqlx::query(AssertSqlSafe(text)).execute(&mut **tx).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn filled(data: &Path) -> Config {
        let config = Config { data: data.to_owned(), ..Config::default() };
        let app = App::open(config.clone()).await.unwrap();
        let text = "INSERT INTO users (name, display, email, admin, disabled, created_at) VALUES ($1, $2, '', 1, 0, 5)";
        sqlx::query(text).bind("ann").bind("Ann \u{e9}\n").execute(&app.db.pool).await.unwrap();
        let sealed = app.vault.seal("variable:1", b"secret");
        let text = "INSERT INTO variables (key, sealed, environment_scope, protected, masked, file, raw, updated_at, updated_by) \
                    VALUES ('K', $1, '*', 0, 1, 0, 0, 5, 'ann')";
        sqlx::query(text).bind(sealed).execute(&app.db.pool).await.unwrap();
        fs::create_dir_all(data.join("logs")).unwrap();
        fs::write(data.join("logs/1.log"), "line\n").unwrap();
        config
    }

    #[tokio::test]
    async fn what_is_restored_is_what_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let config = filled(&dir.path().join("a")).await;
        let archive = dir.path().join("backup.tar.zst");
        let made = backup(&config, &archive, true).await.unwrap();
        assert_eq!((made.tables["users"].rows, made.files), (1, 1));
        let other = Config { data: dir.path().join("b"), ..Config::default() };
        restore(&archive, &other).await.unwrap();
        assert_eq!(fs::read_to_string(other.data.join("logs/1.log")).unwrap(), "line\n");
        let app = App::open(other.clone()).await.unwrap();
        let (sealed,): (Vec<u8>,) =
            sqlx::query_as("SELECT sealed FROM variables").fetch_one(&app.db.pool).await.unwrap();
        assert_eq!(app.vault.open_text("variable:1", &sealed).as_deref(), Some("secret"));
        assert!(restore(&archive, &other).await.unwrap_err().to_string().contains("is not empty"));
    }

    #[tokio::test]
    async fn a_damaged_copy_is_refused_and_leaves_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let config = filled(&dir.path().join("a")).await;
        let archive = dir.path().join("backup.tar.zst");
        backup(&config, &archive, false).await.unwrap();
        let bytes = fs::read(&archive).unwrap();
        fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
        let other = Config { data: dir.path().join("b"), ..Config::default() };
        assert!(restore(&archive, &other).await.is_err());
        assert!(!other.data.join("slipway.db").exists());
    }
}
