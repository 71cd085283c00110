//! The release upgrade file: low-level instructions by version. Source: relup(4) of SASL.

use super::{
    Error,
    erlang::{Term, text},
};

/// A whole `relup` file.
#[derive(Debug, Clone, PartialEq)]
pub struct Relup {
    /// The version that it leads to.
    pub version: String,
    /// One script for each version that can be upgraded from.
    pub up: Vec<Script>,
    /// One script for each version that can be gone back to.
    pub down: Vec<Script>,
}

/// The instructions from or to one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// The other version.
    pub version: String,
    /// What `release_handler` evaluates, in order.
    pub instructions: Vec<Instruction>,
}

/// A low-level instruction. Modules and applications are names.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    /// Read object code of these modules of an application version.
    LoadObjectCode {
        /// The application.
        app: String,
        /// Its version.
        version: String,
        /// Its modules.
        modules: Vec<String>,
    },
    /// From here on a failure restarts the node.
    PointOfNoReturn,
    /// Replace a module.
    Load {
        /// The module.
        module: String,
        /// Whether processes in old code are killed, before or after.
        brutal: bool,
    },
    /// Make a module's current code old.
    Remove {
        /// The module.
        module: String,
        /// Whether processes in old code are killed, before or after.
        brutal: bool,
    },
    /// Purge old code.
    Purge(Vec<String>),
    /// Suspend the processes of these modules.
    Suspend(Vec<String>),
    /// Resume them.
    Resume(Vec<String>),
    /// Let the processes of these modules convert their state.
    CodeChange(Vec<String>),
    /// Stop the processes of these modules.
    Stop(Vec<String>),
    /// Start them again.
    Start(Vec<String>),
    /// Wait for other nodes.
    SyncNodes,
    /// Call a function.
    Apply {
        /// Its module.
        module: String,
        /// Its name.
        function: String,
        /// Its arguments.
        args: Vec<Term>,
    },
    /// Restart the virtual machine at the end.
    RestartEmulator,
    /// Restart the virtual machine at once, with new core applications.
    RestartNewEmulator,
}

impl Relup {
    /// Parses a `relup` file; `file` names it in errors.
    ///
    /// # Errors
    /// The text doesn't parse, or has an unknown instruction.
    pub fn parse(file: &str, source: &str) -> Result<Relup, Error> {
        let term = text::parse_one(source).map_err(|e| Error::text(file, &e))?;
        let shape = || Error::document(file, "it is not `{Vsn, [{UpFrom, Descr, Script}], [{DownTo, ...}]}`");
        let Some([version, up, down]) = term.as_tuple() else { return Err(shape()) };
        let scripts = |term: &Term| -> Result<Vec<Script>, Error> {
            let entries = term.as_list().ok_or_else(shape)?;
            entries.iter().map(|entry| script(file, entry)?.ok_or_else(shape)).collect()
        };
        Ok(Relup { version: version.text().ok_or_else(shape)?, up: scripts(up)?, down: scripts(down)? })
    }

    /// The script that upgrades from `version`.
    #[must_use]
    pub fn up_from(&self, version: &str) -> Option<&Script> {
        self.up.iter().find(|script| script.version == version)
    }

    /// The script that goes back to `version`.
    #[must_use]
    pub fn down_to(&self, version: &str) -> Option<&Script> {
        self.down.iter().find(|script| script.version == version)
    }
}

fn script(file: &str, entry: &Term) -> Result<Option<Script>, Error> {
    let Some([version, _description, instructions]) = entry.as_tuple() else { return Ok(None) };
    let (Some(version), Some(items)) = (version.text(), instructions.as_list()) else { return Ok(None) };
    let parsed = items.iter().map(|item| {
        instruction(item).ok_or_else(|| Error::document(file, format!("`{item}` is no relup instruction")))
    });
    Ok(Some(Script { version, instructions: parsed.collect::<Result<_, _>>()? }))
}

fn instruction(term: &Term) -> Option<Instruction> {
    if let Some(name) = term.as_atom() {
        return Some(match name {
            "point_of_no_return" => Instruction::PointOfNoReturn,
            "restart_emulator" => Instruction::RestartEmulator,
            "restart_new_emulator" => Instruction::RestartNewEmulator,
            _ => return None,
        });
    }
    let items = term.as_tuple()?;
    let (name, args) = items.split_first()?;
    Some(match (name.as_atom()?, args) {
        ("load_object_code", [library]) => {
            let [app, version, modules] = library.as_tuple()? else { return None };
            let modules = names(modules)?;
            Instruction::LoadObjectCode { app: app.as_atom()?.to_owned(), version: version.text()?, modules }
        }
        ("load", [what]) => {
            let (module, brutal) = purged(what)?;
            Instruction::Load { module, brutal }
        }
        ("remove", [what]) => {
            let (module, brutal) = purged(what)?;
            Instruction::Remove { module, brutal }
        }
        ("purge", [modules]) => Instruction::Purge(names(modules)?),
        ("suspend", [modules]) => Instruction::Suspend(names(modules)?),
        ("resume", [modules]) => Instruction::Resume(names(modules)?),
        ("code_change", [modules] | [_, modules]) => Instruction::CodeChange(names(modules)?),
        ("stop", [modules]) => Instruction::Stop(names(modules)?),
        ("start", [modules]) => Instruction::Start(names(modules)?),
        ("sync_nodes", [_, _]) => Instruction::SyncNodes,
        ("apply", [call]) => {
            let [module, function, args] = call.as_tuple()? else { return None };
            let args = args.as_list().map(<[Term]>::to_vec).or_else(|| Some(vec![args.clone()]))?;
            let name = |term: &Term| term.as_atom().map(str::to_owned);
            Instruction::Apply { module: name(module)?, function: name(function)?, args }
        }
        _ => return None,
    })
}

fn purged(term: &Term) -> Option<(String, bool)> {
    let [module, pre, post] = term.as_tuple()? else { return None };
    let brutal = [pre, post].iter().any(|purge| purge.as_atom() == Some("brutal_purge"));
    Some((module.as_atom()?.to_owned(), brutal))
}

/// Modules, each alone or in a tuple with something about it.
fn names(term: &Term) -> Option<Vec<String>> {
    let name = |item: &Term| {
        let atom = item.as_atom().or_else(|| item.as_tuple()?.first()?.as_atom());
        atom.map(str::to_owned)
    };
    term.as_list()?.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systools_writes_is_parsed() {
        let source = r#"{"0.2.0",[{"0.1.0",[],[{load_object_code,{urf,"0.2.0",[urf_store,urf_util]}},point_of_no_return,
            {suspend,[urf_store,{urf_slow,10000}]},{load,{urf_util,soft_purge,brutal_purge}},{load,{urf_store,soft_purge,soft_purge}},
            {code_change,up,[{urf_store,[]}]},{resume,[urf_store]},{apply,{m,f,[1]}},{sync_nodes,x,[n]}]}],
            [{"0.1.0",[],[point_of_no_return,{remove,{urf_util,brutal_purge,brutal_purge}},{purge,[urf_util]},restart_emulator]}]}."#;
        let relup = Relup::parse("relup", source).unwrap();
        assert_eq!(relup.version, "0.2.0");
        let up = &relup.up_from("0.1.0").unwrap().instructions;
        assert_eq!(up.len(), 9);
        assert_eq!(up[2], Instruction::Suspend(vec!["urf_store".into(), "urf_slow".into()]));
        assert_eq!(up[3], Instruction::Load { module: "urf_util".into(), brutal: true });
        assert_eq!(up[4], Instruction::Load { module: "urf_store".into(), brutal: false });
        assert_eq!(up[5], Instruction::CodeChange(vec!["urf_store".into()]));
        assert_eq!(relup.down_to("0.1.0").unwrap().instructions.len(), 4);
        assert_eq!(relup.down_to("0.0.9"), None);
    }

    #[test]
    fn unknown_shapes_are_named() {
        let cases = [
            ("{\"1\",[],[]", "line 1, column 11: expected `,` or `}`, found the end of the text"),
            ("{\"1\",[]}.", "it is not `{Vsn, [{UpFrom, Descr, Script}], [{DownTo, ...}]}`"),
            ("{\"1\",[{\"0\",[],[{frobnicate,a}]}],[]}.", "`{frobnicate,a}` is no relup instruction"),
        ];
        for (source, expected) in cases {
            let error = Relup::parse("relup", source).unwrap_err().to_string();
            assert_eq!(error, format!("`relup` can't be read: {expected}"), "{source}");
        }
    }
}
