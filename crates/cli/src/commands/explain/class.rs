//! The class that is explained, as typed.

use super::images::Subjects;
use crate::failure::Failure;
use crate::output::count;
use residual::files::nearest;

/// A typed class, which may be another one for each image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ClassChoice {
    /// An output of the network.
    Output(usize),
    /// The output with this rank, from 0.
    Rank(usize),
    /// The image's own class.
    True,
}

impl ClassChoice {
    /// The class that was typed as `text` after `flag`, of a network with these labels and number of outputs. A name goes first.
    pub(super) fn parse(flag: &str, text: &str, labels: &[String], outputs: usize) -> Result<Self, Failure> {
        if let Some(output) = labels.iter().position(|label| label == text) {
            return Ok(Self::Output(output));
        }
        let rank = text.strip_prefix("top").and_then(|rank| rank.parse::<usize>().ok());
        match (text, rank, text.parse::<usize>()) {
            ("true", ..) => Ok(Self::True),
            (_, Some(rank), _) if (1..=outputs).contains(&rank) => Ok(Self::Rank(rank - 1)),
            (_, _, Ok(output)) if output < outputs => Ok(Self::Output(output)),
            _ => {
                let known = match labels {
                    [] => format!("a number below {outputs}"),
                    _ => format!("one of {}, a number below {outputs}", count(labels.len() as u64, "class")),
                };
                let hint = nearest(text, labels.iter().map(String::as_str));
                let hint = hint.map_or(String::new(), |hint| format!("; did you mean {hint}?"));
                Err(Failure::usage(format!(
                    "{flag}: expected {known}, true, or top1 to top{outputs}, got \"{text}\"{hint}"
                )))
            }
        }
    }

    /// The output for the image at `index`, whose logits are these.
    pub(super) fn output(
        &self,
        flag: &str,
        subjects: &Subjects,
        index: usize,
        logits: &[f32],
    ) -> Result<usize, Failure> {
        match self {
            Self::Output(output) => Ok(*output),
            Self::Rank(rank) => Ok(ranked(logits)[*rank]),
            Self::True => subjects.output(index).ok_or_else(|| {
                let name = subjects.name(index);
                Failure::usage(match subjects.class(index) {
                    None => format!("{flag} true: expected an image with a class, got {name} (--data has classes)"),
                    Some(class) => format!("{flag} true: expected a class of the model, got \"{class}\" of {name}"),
                })
            }),
        }
    }
}

/// The outputs by descending logit; equal ones by index.
pub(super) fn ranked(logits: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_a_name_a_number_a_rank_or_the_true_one() {
        let labels = ["ant".to_owned(), "top1".to_owned(), "7".to_owned()];
        let parse = |text: &str| ClassChoice::parse("--class", text, &labels, 3).map_err(|error| error.to_string());
        for (text, choice) in [
            ("ant", ClassChoice::Output(0)),
            ("top1", ClassChoice::Output(1)),
            ("7", ClassChoice::Output(2)),
            ("2", ClassChoice::Output(2)),
            ("top3", ClassChoice::Rank(2)),
            ("true", ClassChoice::True),
        ] {
            assert_eq!(parse(text), Ok(choice), "{text}");
        }
        let expected = "--class: expected one of 3 classes, a number below 3, true, or top1 to top3, got \"ent\"; did you mean ant?";
        assert_eq!(parse("ent"), Err(expected.into()));
        assert!(parse("top4").is_err() && parse("3").is_err());
    }

    #[test]
    fn ranks_descend() {
        assert_eq!(ranked(&[1.0, 3.0, 1.0]), [1, 0, 2]);
    }
}
