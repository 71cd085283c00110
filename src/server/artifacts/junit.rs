//! JUnit reports: what is shown of them.

use super::blobs::members;
use crate::server::Answer;
use crate::server::db::Tx;
use crate::server::rows::Job;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde::{Deserialize, Serialize};
use std::fs::File;

/// Bytes of all files of a report, unpacked.
const LARGEST: u64 = 64 << 20;
/// Cases that are kept; the counts are of all.
const MOST: usize = 20_000;
/// Bytes of a failure's text that are kept.
const MESSAGE: usize = 4096;

/// What a job's tests told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// How many there were.
    pub total: i64,
    /// How many failed, or broke.
    pub failed: i64,
    /// How many were skipped.
    pub skipped: i64,
    /// Of all together.
    pub duration_ms: i64,
    /// The first 20,000.
    pub cases: Vec<Case>,
}

/// One test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Case {
    /// Of the suite, or the class.
    pub suite: String,
    /// Of the test.
    pub name: String,
    /// `success`, `failed`, `error`, `skipped`.
    pub status: String,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Reads a report as it is uploaded: gzip, a member a file.
///
/// # Errors
/// It can't be unpacked, or is no XML; in words.
pub fn read(file: File) -> Result<Report, String> {
    let mut report = Report::default();
    let mut wrong = None;
    members(file, LARGEST, |content| wrong = wrong.take().or(report.add(&content).err()))
        .map_err(|error| error.to_string())?;
    wrong.map_or(Ok(report), Err)
}

impl Report {
    /// One that says why there is none.
    pub fn unreadable(why: &str) -> Report {
        let message = why.chars().take(MESSAGE).collect();
        let name = "the report can't be read".to_owned();
        let case =
            Case { suite: "junit".to_owned(), name, status: "error".to_owned(), seconds: 0.0, message };
        Report { total: 1, failed: 1, cases: vec![case], ..Report::default() }
    }

    /// Adds the cases of one file. Entities that the file defines are not looked up.
    fn add(&mut self, xml: &[u8]) -> Result<(), String> {
        let mut reader = Reader::from_reader(xml);
        let mut suites: Vec<String> = Vec::new();
        let mut case: Option<Case> = None;
        let mut collects = false;
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let event = reader.read_event_into(&mut buffer);
            match event.map_err(|e| format!("at byte {}: {e}", reader.error_position()))? {
                Event::Start(tag) => match tag.name().as_ref() {
                    b"testsuite" => suites.push(attribute(&tag, "name")),
                    b"testcase" => case = Some(begin(&tag, suites.last())),
                    name => collects |= result(case.as_mut(), name, &tag),
                },
                Event::Empty(tag) => match tag.name().as_ref() {
                    b"testcase" => self.count(begin(&tag, suites.last())),
                    name => {
                        result(case.as_mut(), name, &tag);
                    }
                },
                Event::End(tag) => match tag.name().as_ref() {
                    b"testsuite" => drop(suites.pop()),
                    b"testcase" => case.take().into_iter().for_each(|case| self.count(case)),
                    b"failure" | b"error" | b"skipped" => collects = false,
                    _ => {}
                },
                Event::Text(text) if collects => append(case.as_mut(), &text),
                Event::CData(text) if collects => append(case.as_mut(), &text),
                Event::GeneralRef(name) if collects => {
                    let text = format!("&{};", String::from_utf8_lossy(&name));
                    let known = quick_xml::escape::unescape(&text).map(|text| text.into_owned());
                    append(case.as_mut(), known.unwrap_or(text).as_bytes());
                }
                Event::Eof => return Ok(()),
                _ => {}
            }
        }
    }

    fn count(&mut self, mut case: Case) {
        self.total += 1;
        self.failed += i64::from(matches!(case.status.as_str(), "failed" | "error"));
        self.skipped += i64::from(case.status == "skipped");
        self.duration_ms = self.duration_ms.saturating_add((case.seconds * 1000.0) as i64);
        if self.cases.len() < MOST {
            case.message = case.message.trim().to_owned();
            self.cases.push(case);
        }
    }

    /// Writes it down in the place of an earlier one of the job.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn store(&self, tx: &mut Tx, job: &Job) -> Answer<()> {
        let cases = serde_json::to_string(&self.cases).unwrap_or_default();
        sqlx::query("DELETE FROM test_reports WHERE job_id = $1").bind(job.id).execute(&mut **tx).await?;
        sqlx::query(
            "INSERT INTO test_reports (job_id, pipeline_id, total, failed, skipped, duration_ms, cases) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(job.id)
        .bind(job.pipeline_id)
        .bind(self.total)
        .bind(self.failed)
        .bind(self.skipped)
        .bind(self.duration_ms)
        .bind(cases)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> String {
    let found = tag.attributes().with_checks(false).flatten().find(|a| a.key.as_ref() == name.as_bytes());
    let value =
        found.and_then(|a| a.normalized_value(XmlVersion::Implicit1_0).map(|value| value.into_owned()).ok());
    value.unwrap_or_default().chars().filter(|c| *c != '\0').take(MESSAGE).collect()
}

fn begin(tag: &BytesStart<'_>, suite: Option<&String>) -> Case {
    let class = attribute(tag, "classname");
    let seconds = attribute(tag, "time").replace(',', "").parse::<f64>().ok();
    Case {
        suite: if class.is_empty() { suite.cloned().unwrap_or_default() } else { class },
        name: attribute(tag, "name"),
        status: "success".to_owned(),
        seconds: seconds.filter(|s| s.is_finite() && *s >= 0.0 && *s < 1e9).unwrap_or(0.0),
        message: String::new(),
    }
}

/// What a case came to; true: its text says more.
fn result(case: Option<&mut Case>, name: &[u8], tag: &BytesStart<'_>) -> bool {
    let (Some(case), status) = (
        case,
        match name {
            b"failure" => "failed",
            b"error" => "error",
            b"skipped" => "skipped",
            _ => return false,
        },
    ) else {
        return false;
    };
    case.status = status.to_owned();
    case.message = attribute(tag, "message");
    if !case.message.is_empty() {
        case.message.push('\n');
    }
    true
}

fn append(case: Option<&mut Case>, text: &[u8]) {
    let Some(case) = case else { return };
    let room = MESSAGE.saturating_sub(case.message.len());
    let text = String::from_utf8_lossy(text);
    // PostgreSQL takes no NUL
    case.message.extend(text.chars().filter(|c| *c != '\0').take(room));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(files: &[&str]) -> File {
        let mut out = tempfile::tempfile().unwrap();
        for text in files {
            let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            member.write_all(text.as_bytes()).unwrap();
            out.write_all(&member.finish().unwrap()).unwrap();
        }
        out
    }

    #[test]
    fn all_files_of_a_report_count() {
        let first = r#"<?xml version="1.0"?><testsuites><testsuite name="s"><testcase name="a" time="1.5"/>
            <testcase classname="c" name="b &amp; c" time="0.25"><failure message="no &lt;x&gt;">at line 3 &gt; 2
            <![CDATA[<raw>]]></failure><system-out>noise</system-out></testcase></testsuite></testsuites>"#;
        let second = r#"<testsuite name="t"><testcase name="d"><skipped/></testcase><testcase name="e"><error>boom
            </error></testcase></testsuite>"#;
        let report = read(gzip(&[first, second])).unwrap();
        assert_eq!((report.total, report.failed, report.skipped, report.duration_ms), (4, 2, 1, 1750));
        let got: Vec<_> =
            report.cases.iter().map(|c| (c.suite.as_str(), c.name.as_str(), c.status.as_str())).collect();
        let expected =
            [("s", "a", "success"), ("c", "b & c", "failed"), ("t", "d", "skipped"), ("t", "e", "error")];
        assert_eq!(got, expected);
        let message = &report.cases[1].message;
        assert!(message.starts_with("no <x>\nat line 3 > 2") && message.ends_with("<raw>"), "{message}");
        assert_eq!(report.cases[3].message, "boom");
    }

    #[test]
    fn what_is_no_report_is_told() {
        assert!(read(gzip(&["<testsuite><testcase></testsuite>"])).is_err());
        let mut plain = tempfile::tempfile().unwrap();
        plain.write_all(b"<testsuite/>").unwrap();
        assert!(read(plain).is_err());
        assert_eq!(read(gzip(&[])).unwrap(), Report::default());
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><testsuite><testcase \
                    name=\"n\"><failure>&b;</failure></testcase></testsuite>";
        assert_eq!(read(gzip(&[bomb])).unwrap().cases[0].message, "&b;");
    }

    #[test]
    fn nothing_makes_it_panic() {
        use proptest::prelude::*;
        let pieces = prop_oneof![
            Just("<testsuite name=\"".to_owned()),
            Just("<testcase name='x' time='1e999'>".to_owned()),
            Just("<failure".to_owned()),
            Just("]]>".to_owned()),
            Just("<![CDATA[".to_owned()),
            Just("</testcase>".to_owned()),
            "\\PC{0,8}",
        ];
        proptest!(|(parts in proptest::collection::vec(pieces, 0..16))| {
            let mut report = Report::default();
            // an error is fine
            let _ = report.add(parts.concat().as_bytes());
            prop_assert!(report.failed + report.skipped <= report.total);
        });
    }
}
