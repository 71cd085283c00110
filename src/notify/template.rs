//! Text by handlebars templates: values only, escaped for where they go; nothing is executed or read.

use super::event::Event;
use super::notifier::NotifierKind;
use handlebars::Handlebars;
use serde_json::{Value as Json, json};

const PLAIN: &str = "{{title}}{{#if text}}\n{{text}}{{/if}}{{#each facts}}\n{{name}}: {{value}}{{/each}}";
const SLACK: &str = "{{#if facts}}*{{title}}*{{else}}{{title}}{{/if}}{{#if text}}\n{{text}}{{/if}}\
                     {{#each facts}}\n{{name}}: {{value}}{{/each}}";
const MATTERMOST: &str = "{{#if facts}}**{{title}}**{{else}}{{title}}{{/if}}{{#if text}}\n\n{{text}}{{/if}}\
                          {{#each facts}}\n- {{name}}: {{value}}{{/each}}";
const HTML: &str = "<p><strong>{{title}}</strong></p>{{#if text}}<pre>{{text}}</pre>{{/if}}\
                    {{#if facts}}<table>{{#each facts}}<tr><td>{{name}}</td><td>{{value}}</td></tr>{{/each}}</table>{{/if}}";
/// A card has its title elsewhere.
const CARD: &str = "{{#if text}}{{text}}{{else}}{{#unless facts}}{{title}}{{/unless}}{{/if}}\
                    {{#each facts}}\n{{name}}: {{value}}{{/each}}";

/// The event for a kind, by its own template or the kind's.
///
/// # Errors
/// The template is wrong, or names what events don't have.
pub(super) fn render(kind: NotifierKind, own: Option<&str>, event: &Event) -> Result<String, String> {
    let usual = match kind {
        NotifierKind::Slack => SLACK,
        NotifierKind::Mattermost => MATTERMOST,
        NotifierKind::Email => HTML,
        NotifierKind::Feishu => CARD,
        NotifierKind::Dingtalk | NotifierKind::Wecom | NotifierKind::Webhook => PLAIN,
    };
    let escape = match kind {
        NotifierKind::Slack => slack,
        NotifierKind::Mattermost => markdown,
        NotifierKind::Email => html,
        NotifierKind::Webhook if own.is_some() => json_string,
        // text that nothing interprets
        _ => str::to_owned,
    };
    fill(own.unwrap_or(usual), escape, event)
}

/// The event as text.
pub(super) fn plain(event: &Event) -> Result<String, String> {
    fill(PLAIN, str::to_owned, event)
}

fn fill(template: &str, escape: fn(&str) -> String, event: &Event) -> Result<String, String> {
    if has_partial(template) {
        return Err(
            "its template uses partials or decorators (`{{>` or `{{*`), of which there are none".into()
        );
    }
    let mut handlebars = Handlebars::new();
    handlebars.set_strict_mode(true);
    handlebars.register_escape_fn(move |text| escape(&printable(text)));
    let wrong = |what: String| format!("filling in its template: {what}");
    let mut data = serde_json::to_value(event).map_err(|e| wrong(e.to_string()))?;
    let facts = event.facts().into_iter().map(|(name, value)| json!({"name": name, "value": value}));
    if let Json::Object(map) = &mut data {
        map.insert("facts".to_owned(), facts.collect());
    }
    let text = handlebars.render_template(template, &data).map_err(|e| wrong(e.to_string()))?;
    Ok(text.trim().to_owned())
}

/// Inline partials can include themselves without end.
fn has_partial(template: &str) -> bool {
    template.split("{{").skip(1).any(|rest| {
        let rest = rest.trim_start_matches(['{', '~']).trim_start();
        let rest = rest.strip_prefix('#').unwrap_or(rest).trim_start();
        rest.starts_with(['>', '*'])
    })
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Slack's three: <https://docs.slack.dev/messaging/formatting-message-text/>; mentions and links are in `<...>`.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn html(text: &str) -> String {
    slack(text).replace('"', "&quot;").replace('\'', "&#39;")
}

fn json_string(text: &str) -> String {
    let quoted = Json::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// What would become formatting, a link or a mention of everybody.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '~' | '|' | '#' | '!') {
            escaped.push('\\');
        }
        escaped.push(c);
        let rest = &text[at + c.len_utf8()..];
        let everybody = ["all", "channel", "here"];
        let is_mention = |word: &&str| rest.get(..word.len()).is_some_and(|r| r.eq_ignore_ascii_case(word));
        if c == '@' && everybody.iter().any(is_mention) {
            // a zero-width space: it reads the same, and calls nobody
            escaped.push('\u{200b}');
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::notifier::Occasion;
    use super::*;

    fn event() -> Event {
        let mut event = Event::deployment(Occasion::Failed, "urf", "0.2.0", "dev");
        event.text = Some("<!channel> \"x\" & *y*\n@here \u{7}{{title}}".to_owned());
        event.by = Some("ann".to_owned());
        event
    }

    #[test]
    fn values_are_escaped_for_where_they_go() {
        let table = [
            (
                NotifierKind::Slack,
                "*Deployment of urf 0.2.0 to dev failed*\n&lt;!channel&gt; \"x\" &amp; *y*\n@here {{title}}\nby: ann",
            ),
            (
                NotifierKind::Mattermost,
                "**Deployment of urf 0.2.0 to dev failed**\n\n\\<\\!channel\\> \"x\" & \\*y\\*\n@\u{200b}here {{title}}\n- by: ann",
            ),
            (
                NotifierKind::Wecom,
                "Deployment of urf 0.2.0 to dev failed\n<!channel> \"x\" & *y*\n@here {{title}}\nby: ann",
            ),
            (NotifierKind::Feishu, "<!channel> \"x\" & *y*\n@here {{title}}\nby: ann"),
            (
                NotifierKind::Email,
                "<p><strong>Deployment of urf 0.2.0 to dev failed</strong></p><pre>&lt;!channel&gt; &quot;x&quot; &amp; *y*\n@here {{title}}</pre><table><tr><td>by</td><td>ann</td></tr></table>",
            ),
        ];
        for (kind, expected) in table {
            assert_eq!(render(kind, None, &event()).unwrap(), expected, "{kind:?}");
        }
        let own = "{\"text\": \"{{text}}\"}";
        let body: Json =
            serde_json::from_str(&render(NotifierKind::Webhook, Some(own), &event()).unwrap()).unwrap();
        assert_eq!(body["text"], "<!channel> \"x\" & *y*\n@here {{title}}");
    }

    #[test]
    fn own_templates_see_the_event_and_nothing_else() {
        let text = render(
            NotifierKind::Dingtalk,
            Some("{{environment}} {{occasion}}{{#each failed_jobs}} {{this}}{{/each}} {{reference}}!"),
            &event(),
        );
        assert_eq!(text.unwrap(), "dev failed !");
        for wrong in ["{{titel}}", "{{#if}", "{{{text", "{{exec text}}"] {
            let error = render(NotifierKind::Dingtalk, Some(wrong), &event()).unwrap_err();
            assert!(error.contains("template"), "{wrong}: {error}");
        }
        for endless in ["{{#*inline \"a\"}}{{> a}}{{/inline}}{{> a}}", "{{~# > a}}{{/a}}", "{{* x}}"] {
            let error = render(NotifierKind::Dingtalk, Some(endless), &event()).unwrap_err();
            assert!(error.contains("partials"), "{endless}: {error}");
        }
    }

    #[test]
    fn a_message_is_its_own_text() {
        for kind in NotifierKind::ALL {
            let text = render(kind, None, &Event::message("it broke (g/app build)")).unwrap();
            let text = text.replace("<p><strong>", "").replace("</strong></p>", "");
            assert_eq!(text, "it broke (g/app build)", "{kind:?}");
        }
    }
}
