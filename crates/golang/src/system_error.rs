//! Errors of the system in Go's words: `open x: no such file or directory`.

use std::io;
use std::path::Path;

/// The reason alone: `no such file or directory`.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// With what was done to which path, as Go's `os` package has it.
pub fn on_path(call: &str, path: &Path, error: &io::Error) -> String {
    format!("{call} {}: {}", path.display(), reason(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_words_them() {
        let missing = std::fs::metadata("/no/such/file").unwrap_err();
        let text = on_path("stat", Path::new("/no/such/file"), &missing);
        assert_eq!(text, "stat /no/such/file: no such file or directory");
    }
}
