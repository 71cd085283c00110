//! `ci expression`: evaluates a condition.

use super::request::variable;
use super::{Format, print_json, print_raw};
use crate::error::{CliError, CliResult, ErrorKind};
use std::collections::HashMap;

#[derive(clap::Args)]
pub(super) struct ExpressionArgs {
    /// A defined variable; one that is not listed is undefined (null)
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// As in `rules:if`
    #[arg(value_name = "EXPRESSION")]
    expression: String,
}

pub(super) fn run(args: &ExpressionArgs) -> CliResult {
    let variables: HashMap<&str, &str> =
        args.variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let parsed = pipelines::expression::parse(&args.expression);
    let lookup = |name: &str| variables.get(name).map(|v| (*v).to_owned());
    let value = parsed.as_ref().is_ok_and(|e| e.holds(&lookup));
    if args.format == Format::Json {
        return print_json(&serde_json::json!({"valid": parsed.is_ok(), "value": value}));
    }
    match parsed {
        Ok(_) => print_raw(format!("{value}\n").as_bytes())?,
        Err(e) => return Err(CliError::usage(format!("the expression is not valid: {e}"))),
    }
    if value { Ok(()) } else { Err(CliError::silent(ErrorKind::Failed)) }
}
