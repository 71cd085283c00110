//! Sends a mail by SMTP.

use super::event::Event;
use super::notifier::{Notifier, NotifierKind};
use super::retry::{PATIENCE, Refusal, attempts};
use super::template;
use lettre::message::{Mailbox, MultiPart};
use lettre::{Message, SmtpTransport, Transport};
use reqwest::Url;

const FORM: &str = "`smtps://user:password@host` or `smtp://user:password@host` (by STARTTLS), with what is special in \
                    URLs percent-encoded";

/// Sends the event to all addresses of the notifier.
pub(super) fn send(notifier: &Notifier, url: &str, event: &Event) -> Result<(), String> {
    let mail = mail(notifier, event)?;
    let transport = transport(url)?;
    attempts(|| {
        transport.send(&mail).map(drop).map_err(|e| Refusal {
            again: !(e.is_permanent() || e.is_client() || e.is_tls()),
            what: e.to_string(),
            after: None,
        })
    })
}

fn mail(notifier: &Notifier, event: &Event) -> Result<Message, String> {
    let from = notifier.from.as_deref().ok_or("`from`, the sender's address, is missing in its settings")?;
    if notifier.to.is_empty() {
        return Err("`to`, the addresses, is missing in its settings".to_owned());
    }
    let mut mail = Message::builder().from(mailbox(from)?).subject(event.title.as_str()).message_id(None);
    for address in &notifier.to {
        mail = mail.to(mailbox(address)?);
    }
    let html = template::render(NotifierKind::Email, notifier.template.as_deref(), event)?;
    let parts = MultiPart::alternative_plain_html(template::plain(event)?, html);
    mail.multipart(parts).map_err(|e| format!("writing the mail: {e}"))
}

fn mailbox(address: &str) -> Result<Mailbox, String> {
    address.parse().map_err(|e| format!("`{}` is not a mail address: {e}", address.escape_debug()))
}

fn transport(url: &str) -> Result<SmtpTransport, String> {
    let wrong = || format!("its URL is none of SMTP: write it as {FORM}");
    let mut url = Url::parse(url).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "smtp" | "smtps") || url.host_str().is_none() {
        return Err(wrong());
    }
    let says_tls = url.query_pairs().any(|(name, _)| name == "tls");
    // a password goes in the clear only to this very machine
    if url.scheme() == "smtp" && !says_tls && !is_loopback(&url) {
        url.query_pairs_mut().append_pair("tls", "required");
    }
    let builder = SmtpTransport::from_url(url.as_str()).map_err(|_| wrong())?;
    Ok(builder.timeout(Some(PATIENCE)).build())
}

fn is_loopback(url: &Url) -> bool {
    // schemes that the URL standard doesn't know have their addresses as names
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(more: &str) -> Notifier {
        serde_yaml::from_str(&format!("{{kind: email, url: SMTP_URL{more}}}")).unwrap()
    }

    #[test]
    fn a_mail_has_both_forms_and_a_subject_of_one_line() {
        let event = Event::message("it <b>broke</b>\r\nBcc: all@example.org");
        let mail =
            mail(&notifier(", from: ci@example.org, to: ['Ops <ops@example.org>', b@example.org]"), &event);
        let text = String::from_utf8(mail.unwrap().formatted()).unwrap();
        assert!(text.contains("Subject: it <b>broke</b>  Bcc: all@example.org\r\n"), "{text}");
        assert!(!text.contains("\nBcc:"), "{text}");
        assert!(text.contains("text/plain") && text.contains("text/html"), "{text}");
        assert!(text.contains("it &lt;b&gt;broke"), "{text}");
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let table = [
            (", to: [a@b.c]", "`from`"),
            (", from: a@b.c", "`to`"),
            (", from: nobody, to: [a@b.c]", "`nobody` is not a mail address"),
            (", from: a@b.c, to: [\"a@b.c\\r\\nX: y\"]", "is not a mail address"),
        ];
        for (more, expected) in table {
            let error = mail(&notifier(more), &Event::message("m")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        for url in ["t0p", "http://t0p", "smtp:t0p", "smtp://t0p@h?tls=maybe"] {
            let error = transport(url).err().unwrap();
            assert!(error.contains("smtps://") && !error.contains("t0p"), "{error}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for (url, expected) in [
            ("smtp://127.0.0.1:25", true),
            ("smtp://[::1]:25", true),
            ("smtp://localhost", true),
            ("smtp://mail.example.org", false),
            ("smtp://localhost.example.org", false),
            ("smtp://127.0.0.1.example.org", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
