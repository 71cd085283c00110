//! Templates.

use super::words;
use crate::server::access::Actor;
use crate::server::{App, Problem};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use handlebars::Handlebars;
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::sync::LazyLock;

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// All templates, by name. `layout` stands around each of those that are pages; names with `_` are parts.
        const TEMPLATES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("templates/", $name, ".hbs")))),*];
    };
}

templates![
    "layout",
    "problem",
    "login",
    "_pipelines",
    "_pager",
    "_csrf",
    "_job",
    "_projects",
    "_waiting",
    "_cell",
    "_flags",
    "_role",
    "_machine",
    "_runner",
    "_schedule",
    "_variables",
    "home",
    "projects",
    "wallboard",
    "calendar",
    "pipelines",
    "branches",
    "pipeline",
    "job",
    "tests",
    "artifacts",
    "grid",
    "environments",
    "environment",
    "approvals",
    "deliveries",
    "delivery",
    "schedules",
    "queue",
    "runners",
    "settings",
    "health",
    "run",
    "new_project",
    "account",
    "audit",
    "device",
    "members",
    "users",
    "welcome",
];

static REGISTRY: LazyLock<Handlebars<'static>> = LazyLock::new(|| {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(false);
    words::register(&mut registry);
    for (name, text) in TEMPLATES {
        registry.register_template_string(name, text).expect("templates are tested");
    }
    registry
});

/// A page: the template `name` filled with `data`, in the layout, for who asks. With a [`super::place::Place`] in
/// `data.place` the project's own navigation stands above it.
pub fn page(app: &App, actor: &Actor, name: &str, title: &str, data: &impl Serialize) -> Response {
    let _ = app;
    match fill(actor, name, title, data) {
        Ok(text) => Html(text).into_response(),
        Err(error) => Problem::internal("filling a page", &error).into_response(),
    }
}

fn fill(
    actor: &Actor,
    name: &str,
    title: &str,
    data: &impl Serialize,
) -> Result<String, handlebars::RenderError> {
    let mut data = serde_json::to_value(data).map_err(handlebars::RenderErrorReason::SerdeError)?;
    let who = json!({ "name": actor.name, "signed_in": actor.user.is_some(), "admin": actor.admin });
    let place = data.get("place").cloned();
    if let Json::Object(map) = &mut data {
        // forms: {{> _csrf}}
        map.insert("csrf".into(), json!(actor.csrf));
        map.insert("actor".into(), who.clone());
    }
    let body = REGISTRY.render(name, &data)?;
    let frame = json!({ "title": title, "body": body, "actor": who, "csrf": actor.csrf, "place": place, "here": name });
    REGISTRY.render("layout", &frame)
}

/// An error as a page.
pub fn problem_page(app: &App, actor: &Actor, problem: &Problem) -> Response {
    let status: StatusCode = problem.status;
    let reason = status.canonical_reason().unwrap_or("Problem");
    let data = json!({ "status": status.as_u16(), "reason": reason, "message": problem.message });
    (status, page(app, actor, "problem", reason, &data)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_templates_are_right() {
        for (name, text) in TEMPLATES {
            assert!(REGISTRY.has_template(name));
            assert!(!text.contains("style="), "`{name}` has an inline style, which the CSP forbids");
            assert!(
                !text.contains(" onclick") && !text.contains("<script>"),
                "`{name}` has an inline script"
            );
        }
    }

    #[test]
    fn only_what_we_made_ourselves_goes_unescaped() {
        let allowed = ["{{{body}}}", "{{{graph}}}", "{{{timing}}}", "{{{line.html}}}"];
        for (name, text) in TEMPLATES {
            let rest = allowed.iter().fold((*text).to_owned(), |rest, word| rest.replace(word, ""));
            assert!(!rest.contains("{{{"), "`{name}`");
        }
    }
}
