//! What cannot be equal, made equal: times, numbers, order, and ids that were made from the time.

/// Numbers with a unit of time: behind the word `took`, and in the cells of a table that has a column for them.
pub fn durations(text: &str) -> String {
    let text = match text.split('│').any(|cell| cell.trim() == "TOOK") {
        true => &text.split('│').map(without_duration).collect::<Vec<_>>().join("│"),
        false => text,
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.to_lowercase().find("took") {
        let (before, after) = rest.split_at(at + 4);
        out += before;
        let start = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let digits = &after[start..];
        let number = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let unit = digits[number..].find(|c: char| !c.is_alphabetic()).unwrap_or(digits.len() - number);
        let near = after[..start].chars().all(|c| " :=\"".contains(c));
        if near && number > 0 {
            out += &after[..start];
            out += "<took>";
            rest = &digits[number + unit..];
        } else {
            rest = after;
        }
    }
    out + rest
}

/// A cell of a table, blanks around it included.
fn without_duration(cell: &str) -> &str {
    let value = cell.trim();
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is_duration = unit.len() < value.len() && ["ns", "µs", "ms", "s"].contains(&unit);
    if is_duration { " <took> " } else { cell }
}

/// All numbers alike, whatever their sign.
pub fn numbers(text: &str) -> String {
    runs(text, |c| c.is_ascii_digit(), '#').replace("-#", "#")
}

/// Sizes of files: numbers in front of a unit, or behind a word for them.
pub fn sizes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(from.len());
        let (number, behind) = from.split_at(end);
        let is_size = [" B", " kB", " MB"].iter().any(|unit| behind.starts_with(unit))
            || ["\"totalSize\":", "\"Size\" : "].iter().any(|word| before.ends_with(word));
        out += before;
        out += if is_size { "<size>" } else { number };
        rest = behind;
    }
    out + rest
}

/// Runs of blanks and of rules alike.
pub fn layout(text: &str) -> String {
    runs(&runs(text, |c| c == ' ', ' '), |c| c == '─', '─')
}

/// Lines, and elements of lists within them, in the order of their texts.
pub fn order(text: &str) -> String {
    let mut parts: Vec<&str> = text.split(['\n', ',', '"', '[', ']', '{', '}']).map(str::trim).collect();
    parts.retain(|part| !part.is_empty());
    parts.sort_unstable();
    parts.join("\n")
}

/// An id in hex, padded or not, and in decimal.
pub fn id(text: &str, id: &str, name: &str) -> String {
    let mask = format!("<{name}>");
    // Behind a blank of its own, as in `Member %16x`.
    let padded = format!("{id:>16}");
    let text = match padded == id {
        true => text.to_owned(),
        false => text.replace(&format!(" {padded}"), &format!(" {mask}")),
    };
    let text = text.replace(id, &mask);
    match u64::from_str_radix(id, 16) {
        Ok(decimal) => text.replace(&decimal.to_string(), &mask),
        Err(_) => text,
    }
}

/// The first id in what a program printed: a word of hex digits.
pub fn first_id(out: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(out);
    let is_id = |word: &&str| (12..=16).contains(&word.len()) && word.chars().all(|c| c.is_ascii_hexdigit());
    text.split_whitespace().find(is_id).map(String::from)
}

fn runs(text: &str, in_run: impl Fn(char) -> bool, mask: char) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        if !in_run(c) {
            out.push(c);
        } else if !inside {
            out.push(mask);
        }
        inside = in_run(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(durations("took = 6.67ms\n"), "took = <took>\n");
        assert_eq!(durations("{\"took\":\"4.9µs\"}"), "{\"took\":\"<took>\"}");
        assert_eq!(durations("TOOK    │ it took long"), "TOOK    │ it took long");
        assert_eq!(
            durations("│ ENDPOINT │     TOOK     │\n│ a:1 │ 903.12µs │\n│ b:2 │ 1.5ms │"),
            "│ ENDPOINT │     TOOK     │\n│ a:1 │ <took> │\n│ b:2 │ <took> │"
        );
        assert_eq!(numbers("a12b-3"), "a#b#");
        assert_eq!(
            sizes("3, 4.2 MB, {\"totalKey\":3,\"totalSize\":4}"),
            "3, <size> MB, {\"totalKey\":3,\"totalSize\":<size>}"
        );
        assert_eq!(order("b, a\nc\n"), order("c\na, b\n"));
        assert_eq!(id("Member  90da20b7532c30e in", "90da20b7532c30e", "M"), "Member <M> in");
        assert_eq!(id("from 1 to 90da20b7532c30e", "90da20b7532c30e", "M"), "from 1 to <M>");
        assert_eq!(id("ID: 255", "ff", "M"), "ID: <M>");
        assert_eq!(first_id(b"lease 390da20b7532c30e granted"), Some("390da20b7532c30e".into()));
    }
}
