//! The file format of cases: one invocation a line, what else it needs on lines below it.
//!
//! ```text
//! # a comment
//! > get a -w json          an invocation; words are quoted as in a shell
//! ! stdin a\nb\n           what it reads
//! ! times 1000            … so many times over
//! ! env ETCDCTL_HEX=true   a variable; may be repeated
//! ! capture LEASE          the id in its output is $LEASE from here on
//! ! mask numbers           all digits are alike; `! mask layout`: runs of blanks and rules too
//! ! mask order             lines and elements of lists may come in any order
//! ! mask sizes             sizes of files are alike
//! ! until 4                ends it with a signal once it printed so many lines
//! ! retry some text        runs it again while it says so on stderr
//! ! skip                   runs it, for its effect only
//! ! code                   compares the exit code only
//! ! fails                  compares only that it fails: etcd's panics, or in its own words
//! ! tools                  compares tools only: our servers do not have it yet
//! @ start 3                what a suite does itself
//! ```

#[derive(Debug, Default)]
pub struct Case {
    /// File and line.
    pub place: String,
    pub words: Vec<String>,
    pub stdin: Vec<u8>,
    pub env: Vec<(String, String)>,
    pub capture: Option<String>,
    pub mask_numbers: bool,
    pub mask_layout: bool,
    pub mask_order: bool,
    pub mask_sizes: bool,
    pub until: Option<usize>,
    pub retry: Option<String>,
    pub compared: bool,
    pub code_only: bool,
    pub fails: bool,
    pub tools_only: bool,
}

#[derive(Debug)]
pub enum Step {
    Invoke(Case),
    /// Words behind `@`.
    Act {
        place: String,
        words: Vec<String>,
    },
}

/// `file` is its name, to people.
pub fn parse(file: &str, text: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        let fail = |what: &str| format!("{place}: {what}: {line}");
        if let Some(words) = line.strip_prefix('>') {
            let words = split(words).ok_or_else(|| fail("open quote"))?;
            steps.push(Step::Invoke(Case { place, words, compared: true, ..Case::default() }));
        } else if let Some(words) = line.strip_prefix('@') {
            let words = split(words).ok_or_else(|| fail("open quote"))?;
            steps.push(Step::Act { place, words });
        } else if let Some(directive) = line.strip_prefix("! ") {
            let Some(Step::Invoke(case)) = steps.last_mut() else {
                return Err(fail("nothing to apply it to"));
            };
            apply(case, directive).ok_or_else(|| fail("unknown directive"))?;
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            return Err(fail("neither case nor directive"));
        }
    }
    Ok(steps)
}

fn apply(case: &mut Case, directive: &str) -> Option<()> {
    let (name, value) = directive.split_once(' ').unwrap_or((directive, ""));
    match (name, value) {
        ("stdin", text) => case.stdin = unescape(text),
        ("times", count) => case.stdin = case.stdin.repeat(count.parse().ok()?),
        ("env", text) => {
            let (name, value) = text.split_once('=')?;
            case.env.push((name.into(), value.into()));
        }
        ("capture", name) => case.capture = Some(name.into()),
        ("mask", "numbers") => case.mask_numbers = true,
        ("mask", "layout") => (case.mask_numbers, case.mask_layout) = (true, true),
        ("mask", "sizes") => case.mask_sizes = true,
        ("mask", "order") => case.mask_order = true,
        ("until", count) => case.until = Some(count.parse().ok()?),
        ("retry", text) if !text.is_empty() => case.retry = Some(text.into()),
        ("skip", "") => case.compared = false,
        ("code", "") => case.code_only = true,
        ("tools", "") => case.tools_only = true,
        ("fails", "") => case.fails = true,
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
        let text = "# x\n> put a 'b c' \"\"\n! stdin x\\ny\n! times 2\n! env A=b=c\n\n> get a\n! until 2\n@ start 3\n";
        let steps = parse("f", text).unwrap();
        let [Step::Invoke(put), Step::Invoke(get), Step::Act { place, words }] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!(put.words, ["put", "a", "b c", ""]);
        assert_eq!((put.stdin.as_slice(), put.env[0].1.as_str()), (&b"x\nyx\ny"[..], "b=c"));
        assert_eq!((get.until, get.place.as_str()), (Some(2), "f:7"));
        assert_eq!((place.as_str(), &words[..]), ("f:9", &["start".to_owned(), "3".to_owned()][..]));
        for bad in ["! stdin x", "> 'a", "> a\n! what", "@ start\n! code", "nonsense"] {
            assert!(parse("f", bad).is_err(), "{bad}");
        }
    }
}
