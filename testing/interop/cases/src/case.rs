//! The file format of cases: one invocation a line, what else it needs on lines below it.
//!
//! ```text
//! # a comment
//! > get a -w json          an invocation; words are quoted as in a shell
//! ! stdin a\nb\n           what it reads
//! ! env ETCDCTL_HEX=true   a variable; may be repeated
//! ! capture LEASE          the 16 hex digits in its output are $LEASE from here on
//! ! mask numbers           all digits are alike; `! mask layout`: runs of blanks and rules too
//! ! until 4                ends it with a signal once it printed so many lines
//! ! skip                   runs it, for its effect only
//! ! code                   compares the exit code only
//! ```

#[derive(Debug, Default)]
pub struct Case {
    pub line: usize,
    pub words: Vec<String>,
    pub stdin: Vec<u8>,
    pub env: Vec<(String, String)>,
    pub capture: Option<String>,
    pub mask_numbers: bool,
    pub mask_layout: bool,
    pub until: Option<usize>,
    pub compared: bool,
    pub code_only: bool,
}

pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let fail = |what: &str| format!("line {}: {what}: {line}", number + 1);
        if let Some(words) = line.strip_prefix('>') {
            let words = split(words).ok_or_else(|| fail("open quote"))?;
            cases.push(Case { line: number + 1, words, compared: true, ..Case::default() });
        } else if let Some(directive) = line.strip_prefix("! ") {
            let case = cases.last_mut().ok_or_else(|| fail("nothing to apply it to"))?;
            apply(case, directive).ok_or_else(|| fail("unknown directive"))?;
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            return Err(fail("neither case nor directive"));
        }
    }
    Ok(cases)
}

fn apply(case: &mut Case, directive: &str) -> Option<()> {
    let (name, value) = directive.split_once(' ').unwrap_or((directive, ""));
    match (name, value) {
        ("stdin", text) => case.stdin = unescape(text),
        ("env", text) => {
            let (name, value) = text.split_once('=')?;
            case.env.push((name.into(), value.into()));
        }
        ("capture", name) => case.capture = Some(name.into()),
        ("mask", "numbers") => case.mask_numbers = true,
        ("mask", "layout") => (case.mask_numbers, case.mask_layout) = (true, true),
        ("until", count) => case.until = Some(count.parse().ok()?),
        ("skip", "") => case.compared = false,
        ("code", "") => case.code_only = true,
        _ => return None,
    }
    Some(())
}

fn unescape(text: &str) -> Vec<u8> {
    text.replace("\\n", "\n").replace("\\t", "\t").into_bytes()
}

/// Words, with `'…'` and `"…"` around those that hold blanks or are empty.
fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_with_directives() {
        let text = "# x\n> put a 'b c' \"\"\n! stdin x\\ny\n! env A=b=c\n\n> get a\n! until 2\n";
        let cases = parse(text).unwrap();
        assert_eq!(cases[0].words, ["put", "a", "b c", ""]);
        assert_eq!((cases[0].stdin.as_slice(), cases[0].env[0].1.as_str()), (&b"x\ny"[..], "b=c"));
        assert_eq!((cases[1].until, cases[1].line), (Some(2), 6));
        assert!(parse("! stdin x").is_err() && parse("> 'a").is_err() && parse("> a\n! what").is_err());
    }
}
