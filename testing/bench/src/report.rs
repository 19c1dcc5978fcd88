//! The tables, in Markdown: what each server did, and ours over Go's.

use crate::Plan;
use crate::rows::Side;

const COLUMNS: [&str; 7] = ["per s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs/op", "peak MiB", "anon MiB"];

pub fn heading(plan: &Plan) {
    let one = plan.programs.len() == 1;
    let cells = COLUMNS.map(|name| if one { name.to_owned() } else { format!("{name}: Go | ours | ratio") });
    println!("| row | {} |", cells.join(" | "));
    println!("|---|{}", "---:|".repeat(COLUMNS.len() * if one { 1 } else { 3 }));
}

pub fn row(name: &str, sides: &[Side]) {
    let figures: Vec<[f64; 7]> = sides.iter().map(figures).collect();
    let cells: Vec<String> = (0..COLUMNS.len())
        .map(|column| cell(&figures.iter().map(|side| side[column]).collect::<Vec<f64>>()))
        .collect();
    println!("| {name} | {} |", cells.join(" | "));
}

pub fn values_heading(plan: &Plan) {
    let one = plan.programs.len() == 1;
    println!(
        "{}",
        if one {
            "| what | value |\n|---|---:|"
        } else {
            "| what | Go | ours | ratio |\n|---|---:|---:|---:|"
        }
    );
}

pub fn values(name: &str, values: &[f64]) {
    println!("| {name} | {} |", cell(values));
}

fn figures(side: &Side) -> [f64; 7] {
    let ops = side.slice.ops.max(1) as f64;
    [
        ops / side.slice.seconds,
        side.slice.latencies.quantile_ms(500),
        side.slice.latencies.quantile_ms(990),
        side.slice.latencies.quantile_ms(999),
        side.cpu_seconds * 1e6 / ops,
        side.memory.peak,
        side.memory.anonymous,
    ]
}

fn cell(values: &[f64]) -> String {
    let mut texts: Vec<String> = values.iter().map(|value| short(*value)).collect();
    if let [go, ours] = values {
        texts.push(format!("**{:.2}**", ours / go));
    }
    texts.join(" | ")
}

/// About three digits that mean something.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
