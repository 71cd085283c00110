//! `--format json`: the events as they are, a JSON document a line. Job output is not in them; `job_log` says
//! which file has grown how far.

use pipelines::event::Event;
use std::io::{self, Write};
use std::sync::{Arc, mpsc::Receiver};

/// Writes every event until the run ends.
///
/// # Errors
/// The output can't be written (its reader has gone).
pub fn report(events: &Receiver<Arc<Event>>, out: &mut dyn Write) -> io::Result<()> {
    for event in events {
        let mut line = serde_json::to_vec(&*event)?;
        line.push(b'\n');
        out.write_all(&line)?;
        // whoever reads acts on each event as it comes
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::event::EventKind;
    use pipelines::status::Status;
    use std::sync::mpsc;

    #[test]
    fn a_line_for_each_event() {
        let (sender, receiver) = mpsc::channel();
        let log = EventKind::JobLog { job: "a\n".to_owned(), path: "a.log".to_owned(), length: 3 };
        let end = EventKind::RunFinished { status: Status::Success };
        for (seq, kind) in [(1, log), (2, end)] {
            sender.send(Arc::new(Event { seq, at: 7, kind })).unwrap();
        }
        drop(sender);
        let mut out = Vec::new();
        report(&receiver, &mut out).unwrap();
        let expected = concat!(
            r#"{"seq":1,"at":7,"event":"job_log","job":"a\n","path":"a.log","length":3}"#,
            "\n",
            r#"{"seq":2,"at":7,"event":"run_finished","status":"success"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
