//! Asking a person for a password.

use std::io::{self, BufRead, Write};

use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};

/// Prompts on stdout and reads a line from stdin, without echo where there is a terminal.
pub fn ask_secret(prompt: &str) -> io::Result<String> {
    let mut stdout = io::stdout();
    stdout.write_all(prompt.as_bytes())?;
    stdout.flush()?;
    let stdin = io::stdin();
    if !isatty(&stdin) {
        return read_line();
    }
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &hidden)?;
    let line = read_line();
    tcsetattr(&stdin, OptionalActions::Now, &shown)?;
    stdout.write_all(b"\n")?;
    line
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF"));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
