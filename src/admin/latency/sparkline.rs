//! Samples as a graph of letters: four rows high, a label written downwards below each column.
//!
//! A column has three steps per row (`_`, `o`, `#`) and is filled with `|` below its top. The lowest sample of all is the
//! first step of the last row, the highest the last step of the first one.

/// Rows of the graph.
const ROWS: usize = 4;
/// What the top of a column may look like, from low to high.
const TOPS: [char; 3] = ['_', 'o', '#'];

/// The graph of (value, label) pairs, `columns` of them beside each other, the next ones below after a blank line.
pub(super) fn render(samples: &[(u64, String)], columns: usize) -> String {
    let values = || samples.iter().map(|(value, _)| *value);
    let (least, most) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
    let parts: Vec<String> = samples
        .chunks(columns)
        .map(|part| render_part(part, least, most))
        .collect();
    parts.join("\n")
}

fn render_part(samples: &[(u64, String)], least: u64, most: u64) -> String {
    let mut text = String::new();
    for row in (0..ROWS).rev() {
        text.extend(samples.iter().map(|(value, _)| {
            let step = step(*value, least, most);
            match step.checked_sub(row * TOPS.len()) {
                None => ' ',
                Some(above) => TOPS.get(above).copied().unwrap_or('|'),
            }
        }));
        text.push('\n');
    }
    text.extend(samples.iter().map(|_| ' '));
    text.push('\n');
    let longest = samples.iter().map(|(_, label)| label.len()).max();
    for at in 0..longest.unwrap_or(0) {
        let letter = |label: &str| label.as_bytes().get(at).map_or(' ', |byte| *byte as char);
        text.extend(samples.iter().map(|(_, label)| letter(label)));
        text.push('\n');
    }
    text
}

/// How many steps high a value stands.
fn step(value: u64, least: u64, most: u64) -> usize {
    let steps = ROWS * TOPS.len();
    let span = u128::from(most - least).max(1);
    let step = u128::from(value - least) * steps as u128 / span;
    (step as usize).min(steps - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[u64]) -> Vec<(u64, String)> {
        let count = values.len();
        values
            .iter()
            .enumerate()
            .map(|(index, value)| (*value, format!("{}s", count - index)))
            .collect()
    }

    #[test]
    fn columns_as_redis_draws_them() {
        // Drawn by redis-server 7.0.15 from samples of these heights.
        assert_eq!(render(&samples(&[14]), 80), " \n \n \n_\n \n1\ns\n");
        assert_eq!(
            render(&samples(&[14, 20, 60, 2, 40]), 80),
            "  #  \n  | o\n _| |\n#||_|\n     \n54321\nsssss\n"
        );
        assert_eq!(
            render(&samples(&[14, 20, 60, 2, 40, 9, 2, 5, 3, 20]), 80),
            "  #       \n  | o     \n _| |    _\n#||_|o___|\n          \n1987654321\n0sssssssss\ns         \n"
        );
    }

    #[test]
    fn more_columns_go_on_below_with_the_same_scale() {
        assert_eq!(
            render(&samples(&[1, 12, 3]), 2),
            " #\n |\n |\n_|\n  \n32\nss\n\n \n \n \n#\n \n1\ns\n"
        );
        assert_eq!(render(&[], 80), "");
    }

    #[test]
    fn huge_values_do_not_overflow() {
        assert_eq!(step(u64::MAX, 0, u64::MAX), 11);
        assert_eq!(step(0, 0, u64::MAX), 0);
    }
}
