//! How sure a plan is: measured from how it came about, not felt.
//!
//! For each part of the request (clause):
//!
//! ```text
//! part = 0.45 · coverage + 0.25 · margin + 0.30 · wired
//! ```
//!
//! - *coverage*: the share of the part's meaningful words, weighted by rarity, that the chosen operation speaks of;
//! - *margin*: how far the chosen operation leads the next one; a lead of a quarter of its score counts fully;
//! - *wired*: the share of the inputs its steps need that came from the text or an earlier step and were not asked.
//!
//! The plan's confidence is the mean over all parts (a part that nothing serves is 0), times 0.85 for every
//! condition that could not be told from the data, times 0.9 for every value of the text that no step uses (three
//! at most), within 0.05 and 0.95: a text match is never a certainty.

const FULL_MARGIN: f32 = 0.25;

/// What is known of one part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part {
    pub coverage: f32,
    pub margin: f32,
    pub required: usize,
    pub met: usize,
}

/// `parts`: one for each part of the request; `None`: nothing serves it.
pub fn confidence(parts: &[Option<Part>], unclear_conditions: usize, unused_values: usize) -> f32 {
    if parts.is_empty() {
        return 0.0;
    }
    let sum: f32 = parts.iter().flatten().map(part).sum();
    let mean = sum / parts.len() as f32;
    let doubts = 0.85_f32.powi(unclear_conditions as i32) * 0.9_f32.powi(unused_values.min(3) as i32);
    let rounded = ((mean * doubts) * 100.0).round() / 100.0;
    rounded.clamp(0.05, 0.95)
}

fn part(part: &Part) -> f32 {
    let wired = if part.required == 0 { 1.0 } else { part.met as f32 / part.required as f32 };
    0.45 * part.coverage + 0.25 * (part.margin / FULL_MARGIN).min(1.0) + 0.30 * wired
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_lower_it_and_it_is_never_certain() {
        let part = Part { coverage: 1.0, margin: 1.0, required: 2, met: 2 };
        let good = Some(part);
        assert_eq!(confidence(&[good], 0, 0), 0.95);
        assert_eq!(confidence(&[good, None], 0, 0), 0.5);
        assert_eq!(confidence(&[Some(Part { met: 0, ..part })], 0, 0), 0.7);
        assert!(confidence(&[good], 1, 0) < 0.95 && confidence(&[good], 0, 2) < confidence(&[good], 0, 1));
        assert_eq!(confidence(&[None], 0, 0), 0.05);
    }
}
