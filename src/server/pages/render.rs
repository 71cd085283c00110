//! Templates.

use crate::server::access::Actor;
use crate::server::{App, Problem};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use handlebars::Handlebars;
use serde::Serialize;
use serde_json::json;
use std::sync::LazyLock;

/// All templates, by name. `layout` stands around each of the others.
const TEMPLATES: &[(&str, &str)] = &[
    ("layout", include_str!("templates/layout.hbs")),
    ("account", include_str!("templates/account.hbs")),
    ("audit", include_str!("templates/audit.hbs")),
    ("device", include_str!("templates/device.hbs")),
    ("members", include_str!("templates/members.hbs")),
    ("users", include_str!("templates/users.hbs")),
    ("welcome", include_str!("templates/welcome.hbs")),
    ("login", include_str!("templates/login.hbs")),
    ("problem", include_str!("templates/problem.hbs")),
];

static REGISTRY: LazyLock<Handlebars<'static>> = LazyLock::new(|| {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(false);
    for (name, text) in TEMPLATES {
        registry.register_template_string(name, text).expect("templates are tested");
    }
    registry
});

/// A page: the template `name` filled with `data`, in the layout, for who asks.
pub fn page(app: &App, actor: &Actor, name: &str, title: &str, data: &impl Serialize) -> Response {
    let _ = app;
    let who = json!({ "name": actor.name, "signed_in": actor.user.is_some(), "admin": actor.admin });
    let mut data = json!(data);
    if let Some(data) = data.as_object_mut() {
        // forms: <input type="hidden" name="csrf" value="{{csrf}}">
        data.insert("csrf".to_owned(), json!(actor.csrf));
        data.insert("actor".to_owned(), who.clone());
    }
    let body = match REGISTRY.render(name, &data) {
        Ok(body) => body,
        Err(error) => return Problem::internal("filling a page", &error).into_response(),
    };
    match REGISTRY
        .render("layout", &json!({ "title": title, "body": body, "actor": who, "csrf": actor.csrf }))
    {
        Ok(text) => Html(text).into_response(),
        Err(error) => Problem::internal("filling a page", &error).into_response(),
    }
}

/// An error as a page.
pub fn problem_page(app: &App, actor: &Actor, problem: &Problem) -> Response {
    let status: StatusCode = problem.status;
    let data = json!({ "status": status.as_u16(), "message": problem.message });
    (status, page(app, actor, "problem", "Problem", &data)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_templates_are_right() {
        for (name, _) in TEMPLATES {
            assert!(REGISTRY.has_template(name));
        }
    }
}
