//! Our own: `{"type": "push", "ref": "refs/heads/main", "before": ID, "after": ID, "user": NAME}`, where all but `type`
//! may stand below `data`.

use super::json::{text, yes};
use crate::server::hooks::event::{Event, NOTHING, Push, Told};
use serde_json::Value;

pub(super) fn told(body: &Value) -> Result<Told, String> {
    let data = body.pointer("/data").filter(|data| data.is_object()).unwrap_or(body);
    match text(body, "/type") {
        "push" | "" => {}
        "ping" => return Ok(Told::nothing("a ping: the hook works")),
        _ => return Ok(Told::nothing("no pipeline runs for this kind of event")),
    }
    let id = |pointer| Some(text(data, pointer)).filter(|id| !id.is_empty()).unwrap_or(NOTHING);
    let (before, after) = (id("/before"), id("/after"));
    let mut push = Push::checked(text(data, "/ref"), before, after, text(data, "/user"))?;
    if before == after {
        return Ok(Told::nothing("the ref did not move"));
    }
    push.skip = yes(data, "/skip");
    Ok(Told::one(Event::Push(push)))
}
