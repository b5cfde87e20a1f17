//! Output: lines and JSON on standard output, errors on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::error::{Error, Result};

/// The form of results on standard output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Prints a line on standard output.
///
/// Returns `BrokenPipe` if the reader has closed standard output, so that `hedgerow … | head` ends
/// without an error message.
pub fn print_line(text: fmt::Arguments<'_>) -> Result<()> {
    let text = sanitize_for_terminal(&text.to_string());
    writeln!(io::stdout().lock(), "{text}").map_err(output_error)
}

fn output_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::BrokenPipe,
        _ => Error::Io(format!("standard output: {error}")),
    }
}

/// Prints a line on standard output, in red if standard output is a terminal and the environment
/// variable NO_COLOR is not set.
pub fn print_alarm(text: &str) -> Result<()> {
    let is_red = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if !is_red {
        return print_line(format_args!("{text}"));
    }
    let text = sanitize_for_terminal(text);
    writeln!(io::stdout().lock(), "\x1b[1;31m{text}\x1b[0m").map_err(output_error)
}

/// Prints a text on standard output. Exactly one newline follows the text, even if the text itself
/// ends with newlines.
pub fn print_text(text: &str) -> Result<()> {
    print_line(format_args!("{}", text.trim_end_matches('\n')))
}

/// Prints a value as one line of JSON on standard output.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Error::Io(error.to_string()))?;
    print_line(format_args!("{text}"))
}

/// Prints a message on standard error.
pub fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "hedgerow: {}", sanitize_for_terminal(message));
}

/// Asks a question on standard error, and returns whether the answer on standard input is yes.
/// Returns `None` if one of the two is not a terminal, or if the answer cannot be read.
pub fn ask(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let _ = write!(io::stderr(), "hedgerow: {} [y/N] ", sanitize_for_terminal(question));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Replaces control characters except newline and tab. Text from files and servers must not send
/// commands to the terminal.
pub fn sanitize_for_terminal(text: &str) -> String {
    let is_unsafe = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}
