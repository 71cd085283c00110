//! Back to a version that lies in its directory still: a deployment of what needs not be sent.

use super::artifact::Artifact;
use super::one::{Order, deploy};
use super::place::Place;
use crate::deploy::bad;
use crate::deploy::error::Error;
use crate::deploy::file::{Environment, Kind, Policy};
use crate::deploy::steps::Steps;
use crate::deploy::target::Target;

/// Goes back to `to`, or else to the version that served before. Returns the version that was left, now marked bad
/// there, and the one that serves.
///
/// # Errors
/// There is no such version on the target; or it does not serve, then what its outcome says does.
pub async fn back(
    target: &mut Target,
    steps: &mut Steps,
    environment: &Environment,
    kind: Kind,
    to: Option<&str>,
) -> Result<(String, String), Error> {
    let place = steps.take("query the target", Place::query(target)).await?;
    let (left, to) = choose(&place, to)?;
    steps.note(&format!("plan: from `{left}` back to `{to}`"));
    let artifact = Artifact::there(target.name(), &to, kind, place.versions[&to].clone());
    // nobody forbids the way back
    let environment = Environment { strategy: Policy::default(), ..environment.clone() };
    let order = Order { artifact: &artifact, environment: &environment, plan: false };
    deploy(target, &order, steps).await?;
    let why = Error::rolled_back(format!("taken back to `{to}` by hand"));
    bad::mark(target, steps, &left, &why).await;
    Ok((left, to))
}

/// What is left, and what comes.
fn choose(place: &Place, to: Option<&str>) -> Result<(String, String), Error> {
    let Some(current) = &place.current else {
        return Err(Error::refused("nothing is installed there")
            .help("deploy a version, then go back from it if need be"));
    };
    let others: Vec<&str> = place.versions.keys().map(String::as_str).filter(|v| v != current).collect();
    let known = match others.as_slice() {
        [] => "the target has no other version: deploy the one that you want".to_owned(),
        others => format!("the target has `{}`; `--to VERSION` chooses", others.join("`, `")),
    };
    let fits =
        |version: &&String| others.contains(&version.as_str()) && !place.bad.contains_key(version.as_str());
    match to {
        Some(to) if to == current => Err(Error::refused(format!("`{to}` is in place there already"))),
        Some(to) if others.contains(&to) => Ok((current.clone(), to.to_owned())),
        Some(to) => Err(Error::refused(format!("`{to}` is not installed there")).help(known)),
        None => match place.served.iter().find(fits) {
            Some(before) => Ok((current.clone(), before.clone())),
            None => Err(Error::refused("no version that served before is there").help(known)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_is_the_version_that_served_before_and_is_not_bad() {
        let mut place = Place {
            current: Some("3".into()),
            served: ["3", "2", "1", "0"].map(str::to_owned).into(),
            versions: ["1", "2", "3", "4"].map(|v| (v.to_owned(), String::new())).into(),
            ..Place::default()
        };
        let to = |place: &Place, to| choose(place, to).map(|(_, to)| to).map_err(|e| e.message);
        assert_eq!(to(&place, None).as_deref(), Ok("2"));
        assert_eq!(to(&place, Some("4")).as_deref(), Ok("4"));
        assert!(to(&place, Some("0")).unwrap_err().contains("not installed"));
        assert!(to(&place, Some("3")).unwrap_err().contains("already"));
        place.bad.insert("2".into(), "leaks".into());
        assert_eq!(to(&place, None).as_deref(), Ok("1"));
        place.versions.remove("1");
        assert!(to(&place, None).is_err());
    }
}
