//! Boxes drawn with light lines, as tablewriter draws them for etcd's tools: headings centred, cells on the
//! right.

/// Rows have as many cells as there are headings.
pub fn draw(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|text| text.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let rule = |left: &str, middle: &str, right: &str| {
        let bars: Vec<_> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", bars.join(middle))
    };
    let line = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let headings = headings.iter().zip(&widths).map(|(text, width)| centred(text, *width)).collect();
    let mut out = rule("┌", "┬", "┐") + &line(headings) + &rule("├", "┼", "┤");
    for row in rows {
        out += &line(row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect());
    }
    out + &rule("└", "┴", "┘")
}

/// Of an odd number of blanks the larger half stands behind.
fn centred(text: &str, width: usize) -> String {
    format!("{text:^width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_centred_and_cells_stand_on_the_right() {
        let rows = [vec!["6ace5bd9".to_owned(), "8".to_owned()]];
        let box_ = "┌──────────┬──────────┐\n│   HASH   │ REVISION │\n├──────────┼──────────┤\n\
                    │ 6ace5bd9 │        8 │\n└──────────┴──────────┘\n";
        assert_eq!(draw(&["HASH", "REVISION"], &rows), box_);
    }
}
