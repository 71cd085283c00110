//! `POST jobs/ID/artifacts`.

use super::identity::{answer, job};
use super::wanted::format_of;
use crate::server::artifacts::blobs::{self, Blob, Limits};
use crate::server::artifacts::junit;
use crate::server::db::now;
use crate::server::rows::Job;
use crate::server::{Answer, App, Problem};
use crate::wire::update::UploadQuery;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{Multipart, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

/// GitLab's: seconds.
const EXPIRE_IN: f64 = 30.0 * 86_400.0;
/// Bytes of a form field.
const FIELD: usize = 1024;

pub(super) async fn upload(
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(mut asked): Query<UploadQuery>,
    headers: HeaderMap,
    mut form: Multipart,
) -> Answer<Response> {
    let job = job(&app, &headers, "", id).await?;
    let mut stored = None;
    while let Some(field) = form.next_field().await.map_err(|e| broken(&e))? {
        match field.name().unwrap_or_default() {
            "file" if stored.is_none() => {
                let filename = filename(field.file_name().unwrap_or_default());
                stored = Some((filename, receive(&app, field).await?));
            }
            "artifact_format" => asked.artifact_format = Some(text(field).await?),
            "artifact_type" => asked.artifact_type = Some(text(field).await?),
            "expire_in" => asked.expire_in = Some(text(field).await?),
            _ => {}
        }
    }
    let (filename, blob) = stored.ok_or_else(|| Problem::bad("the form has no part named `file`"))?;
    let kind = asked.artifact_type.unwrap_or_else(|| "archive".to_owned());
    let format = asked.artifact_format.unwrap_or_else(|| "zip".to_owned());
    check(&kind, &format)?;
    let upload = Upload { kind, format, filename, expires_at: expires_at(asked.expire_in.as_deref()) };
    let report = examine(&upload, &blob).await?;
    let blob = keep(&app, blob).await?;
    record(&app, &job, &upload, &blob, report).await?;
    answer(&app, &job, (StatusCode::CREATED, axum::Json(serde_json::json!({})))).await
}

struct Upload {
    kind: String,
    format: String,
    filename: String,
    expires_at: Option<i64>,
}

fn broken(error: &MultipartError) -> Problem {
    Problem::new(error.status(), "the form could not be read to its end")
}

/// The last part of a path, without what could mislead.
fn filename(text: &str) -> String {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control() && *c != '"').take(200).collect();
    if name.is_empty() || name == "." || name == ".." { "artifacts".to_owned() } else { name }
}

async fn text(mut field: Field<'_>) -> Answer<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e))? {
        if bytes.len() + chunk.len() > FIELD {
            return Err(Problem::bad("a field of the form is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Problem::bad("a field of the form is no text"))
}

async fn receive(app: &App, mut field: Field<'_>) -> Answer<Blob> {
    let mut blob = Blob::new(app).map_err(|e| unstorable(&e))?;
    while let Some(chunk) = field.chunk().await.map_err(|e| broken(&e))? {
        if blob.size() + chunk.len() as u64 > Limits::FILE {
            let message = format!("artifacts have more than {} MiB", Limits::FILE >> 20);
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        blob = tokio::task::spawn_blocking(move || blob.take(&chunk).map(|()| blob))
            .await
            .map_err(|e| Problem::internal("storing artifacts", &e))?
            .map_err(|e| unstorable(&e))?;
    }
    Ok(blob)
}

fn unstorable(error: &std::io::Error) -> Problem {
    tracing::error!("storing artifacts: {error}");
    Problem::unavailable("artifacts can't be stored now; try again")
}

fn check(kind: &str, format: &str) -> Answer<()> {
    let plain = |text: &str| {
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if !plain(kind) {
        return Err(Problem::bad("`artifact_type` is not the name of a type"));
    }
    let expected = format_of(kind);
    if format != expected {
        return Err(Problem::bad(format!("artifacts of type `{kind}` have the format `{expected}`")));
    }
    Ok(())
}

/// None: never.
fn expires_at(text: Option<&str>) -> Option<i64> {
    let seconds = match text.map(str::trim) {
        Some("never") => return None,
        Some(text) => pipelines::duration::parse(text).unwrap_or(EXPIRE_IN),
        None => EXPIRE_IN,
    };
    // what is beyond all calendars is never
    let milliseconds = seconds * 1000.0;
    (milliseconds < 1e16).then(|| now() + milliseconds as i64)
}

/// Refuses what is not what it says, and reads what is shown.
async fn examine(upload: &Upload, blob: &Blob) -> Answer<Option<junit::Report>> {
    let file = blob.reader().map_err(|e| unstorable(&e))?;
    let (kind, format) = (upload.kind.clone(), upload.format.clone());
    let examined = tokio::task::spawn_blocking(move || match (kind.as_str(), format.as_str()) {
        ("junit", _) => junit::read(file).map(Some).map_err(|why| format!("junit report: {why}")),
        ("dotenv", _) => blobs::dotenv(file).map(|_| None).map_err(|why| why.to_string()),
        (_, "zip") => blobs::check_zip(file).map(|()| None),
        _ => Ok(None),
    });
    let examined = examined.await.map_err(|e| Problem::internal("reading artifacts", &e))?;
    match examined {
        Ok(report) => Ok(report),
        // GitLab takes a report that it can't read; so that nobody takes it for a good one, the page says why
        Err(why) if upload.kind == "junit" => Ok(Some(junit::Report::unreadable(&why))),
        Err(why) => Err(Problem::bad(why)),
    }
}

async fn keep(app: &App, blob: Blob) -> Answer<blobs::Kept> {
    let app = app.clone();
    let kept = tokio::task::spawn_blocking(move || blob.keep(&app)).await;
    kept.map_err(|e| Problem::internal("storing artifacts", &e))?.map_err(|e| unstorable(&e))
}

/// A second upload of a type takes the place of the first: the answer to that was lost.
async fn record(
    app: &App,
    job: &Job,
    upload: &Upload,
    blob: &blobs::Kept,
    report: Option<junit::Report>,
) -> Answer<()> {
    let mut tx = app.db.write().await?;
    let query = sqlx::query("DELETE FROM artifacts WHERE job_id = $1 AND file_type = $2");
    query.bind(job.id).bind(&upload.kind).execute(&mut *tx).await?;
    sqlx::query(
        "INSERT INTO artifacts (job_id, project_id, file_type, file_format, filename, size, sha256, expires_at, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(job.id)
    .bind(job.project_id)
    .bind(&upload.kind)
    .bind(&upload.format)
    .bind(&upload.filename)
    .bind(i64::try_from(blob.size).unwrap_or(i64::MAX))
    .bind(&blob.sha256)
    .bind(upload.expires_at)
    .bind(now())
    .execute(&mut *tx)
    .await?;
    if let Some(report) = report {
        report.store(&mut tx, job).await?;
    }
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_no_paths() {
        let table = [
            ("artifacts.zip", "artifacts.zip"),
            ("../../etc/passwd", "passwd"),
            ("..\\x", "x"),
            ("", "artifacts"),
            ("..", "artifacts"),
            ("a\"b\r\nc", "abc"),
        ];
        for (given, expected) in table {
            assert_eq!(filename(given), expected, "{given:?}");
        }
    }

    #[test]
    fn formats_are_those_of_the_type() {
        for (kind, format, good) in [
            ("archive", "zip", true),
            ("archive", "gzip", false),
            ("junit", "gzip", true),
            ("junit", "raw", false),
            ("sast", "raw", true),
            ("", "raw", false),
            ("../x", "raw", false),
        ] {
            assert_eq!(check(kind, format).is_ok(), good, "{kind} {format}");
        }
    }

    #[test]
    fn expiry_is_a_duration_or_never() {
        let at = |text| expires_at(Some(text)).map(|end| (end - now() + 500) / 1000);
        assert_eq!((at("1 day"), at("never"), at("nonsense")), (Some(86_400), None, Some(30 * 86_400)));
        assert_eq!(at("99999999999 years"), None);
    }
}
