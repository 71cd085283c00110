//! Why an appup has each of its instructions, in a sentence.

use serde::Serialize;

use super::{derive::AppChange, erlang::Term};

/// An instruction with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reasoned {
    /// The instruction as it stands in the appup.
    pub instruction: String,
    /// What it does, and why it is there.
    pub reason: String,
}

/// Explains an instruction of the appup of `change`.
#[must_use]
pub(super) fn explain(term: &Term, change: &AppChange<'_>) -> Reasoned {
    let reason =
        reason(term, change).unwrap_or_else(|| "an instruction that only its author can explain".to_owned());
    Reasoned { instruction: term.to_string(), reason }
}

fn reason(term: &Term, change: &AppChange<'_>) -> Option<String> {
    if let Some(name) = term.as_atom() {
        return Some(match name {
            "restart_new_emulator" | "restart_emulator" => {
                "restarts the virtual machine: a relx release does not survive it (R010)".to_owned()
            }
            _ => return None,
        });
    }
    let items = term.as_tuple()?;
    let name = items.first()?.as_atom()?;
    let subject = items.get(1)?;
    let (old, new) = (change.old.0, change.new.0);
    Some(match (name, subject.as_atom()) {
        ("add_module", Some(_)) => format!("new in this version{}", after(items.get(2))),
        ("delete_module", Some(_)) => "not in this version any more: unloaded".to_owned(),
        ("load_module", Some(module)) => format!("{}{}", plain(module, change), after(items.get(2))),
        ("update", Some(module)) => update(module, items, change)?,
        ("apply", None) => call(subject)?,
        ("add_application", Some(app)) => format!("loads and starts the new application `{app}`"),
        ("remove_application", Some(app)) => format!("stops and unloads the application `{app}`"),
        ("restart_application", Some(app)) => {
            format!("stops `{app}` `{old}` and starts `{new}`: its processes lose their state")
        }
        _ => return None,
    })
}

fn plain(module: &str, change: &AppChange<'_>) -> String {
    let process = change.new.1.get(module).is_some_and(|beam| beam.is_process() && !beam.has_code_change());
    let why = match process {
        true => "its code changed; it runs as a process without `code_change`, so its state stays as it is",
        false => "its code changed, and no process keeps state of it (no `code_change`, no supervisor)",
    };
    why.to_owned()
}

fn update(module: &str, items: &[Term], change: &AppChange<'_>) -> Option<String> {
    let kind = items.get(2);
    if kind.and_then(Term::as_atom) == Some("supervisor") {
        return Some(
            "a supervisor that changed: its strategy and child specifications are taken from `init/1` anew; children are \
             neither started nor stopped by this"
                .to_owned(),
        );
    }
    let advanced = kind.and_then(Term::as_tuple).and_then(|pair| pair.first()?.as_atom()) == Some("advanced");
    let behaviours: Vec<&str> =
        change.new.1.get(module).into_iter().flat_map(|beam| beam.behaviours()).collect();
    let what = if behaviours.is_empty() {
        "a process".to_owned()
    } else {
        format!("a `{}`", behaviours.join("`, `"))
    };
    let dependencies =
        items.iter().skip(2).rev().find(|item| item.as_list().is_some_and(|list| !list.is_empty()));
    let steps = match advanced {
        true => "suspended, its code loaded, its state converted by `code_change`, resumed",
        false => "suspended, its code loaded, resumed; its state stays as it is",
    };
    Some(format!("{what} that changed: {steps}{}", after(dependencies)))
}

/// Modules that must be there first.
fn after(dependencies: Option<&Term>) -> String {
    let names: Vec<String> = dependencies
        .and_then(Term::as_list)
        .unwrap_or_default()
        .iter()
        .filter_map(|term| term.as_atom().map(|name| format!("`{name}`")))
        .collect();
    if names.is_empty() { String::new() } else { format!("; after {}, which it calls", names.join(", ")) }
}

fn call(call: &Term) -> Option<String> {
    let [module, function, args] = call.as_tuple()? else { return None };
    let (module, function) = (module.as_atom()?, function.as_atom()?);
    let args = args.as_list().unwrap_or_default();
    let of = |child: &Term, supervisor: &Term| format!("child `{child}` of `{supervisor}`");
    Some(match (module, function, args) {
        ("supervisor", "restart_child", [supervisor, child]) => {
            format!("starts the new {}; the specification alone would not", of(child, supervisor))
        }
        ("supervisor", "terminate_child", [supervisor, child]) => {
            format!("ends the {}, which is gone", of(child, supervisor))
        }
        ("supervisor", "delete_child", [supervisor, child]) => {
            format!("forgets the specification of the {}", of(child, supervisor))
        }
        _ => format!(
            "calls `{module}:{function}/{}`; if that fails, the node restarts into the old version (R014)",
            args.len()
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::erlang::text;
    use super::*;

    #[test]
    fn every_kind_of_instruction_has_its_reason() {
        let none = BTreeMap::new();
        let change = AppChange { app: "a", old: ("1", &none), new: ("2", &none) };
        let cases = [
            ("{add_module,m,[n]}", "new in this version; after `n`, which it calls"),
            ("{delete_module,m}", "not in this version any more: unloaded"),
            ("{load_module,m}", "no process keeps state of it"),
            ("{update,m,supervisor}", "child specifications are taken from `init/1` anew"),
            ("{update,m,{advanced,[]},[n]}", "converted by `code_change`, resumed; after `n`"),
            ("{update,m}", "its state stays as it is"),
            ("{apply,{supervisor,restart_child,[s,c]}}", "starts the new child `c` of `s`"),
            ("{apply,{x,y,[1,2]}}", "calls `x:y/2`"),
            ("{restart_application,a}", "stops `a` `1` and starts `2`"),
            ("restart_emulator", "R010"),
            ("{frobnicate,m}", "only its author"),
        ];
        for (instruction, expected) in cases {
            let reasoned = explain(&text::parse_one(&format!("{instruction}.")).unwrap(), &change);
            assert_eq!(reasoned.instruction, instruction);
            assert!(reasoned.reason.contains(expected), "{instruction}: {}", reasoned.reason);
        }
    }
}
