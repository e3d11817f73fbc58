//! Results, printed as they come: a line per image, comma-separated values, or one JSON document.

use crate::args::Predict;
use crate::failure::Failure;
use crate::output::{json_line, line, print_on};
use residual::files::csv_field;
use residual::{Classification, Prediction};
use serde::Serialize;
use std::fmt::Write;

/// Results that are not yet printed, and the number of all.
pub(super) struct Report<'a> {
    arguments: &'a Predict,
    text: String,
    rows: usize,
    is_unread: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    input: &'a str,
    top: Vec<Class>,
    logits: &'a [f32],
}

#[derive(Serialize)]
struct Class {
    label: String,
    index: usize,
    probability: f32,
}

impl<'a> Report<'a> {
    pub(super) fn new(arguments: &'a Predict) -> Self {
        Self { arguments, text: String::new(), rows: 0, is_unread: false }
    }

    /// How many images were reported.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Whether the reader closed the pipe.
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// Adds the result of an image.
    pub(super) fn add(&mut self, name: &str, output: &Classification) -> Result<(), Failure> {
        let top = output.top(self.arguments.top.get().into());
        if self.arguments.format.json {
            self.text += if self.rows == 0 { "{\n  \"predictions\": [\n    " } else { ",\n    " };
            let class = |Prediction { label, index, probability }| Class { label, index, probability };
            let top = top.into_iter().map(class).collect();
            self.text += &json_line(&Row { input: name, top, logits: output.logits() })?;
        } else if self.arguments.csv {
            self.csv(name, &top, output.logits());
        } else {
            self.line(name, &top, output.logits());
        }
        self.rows += 1;
        Ok(())
    }

    /// Prints the results that are not yet printed.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.is_unread |= !print_on(&self.text)?;
        self.text.clear();
        Ok(())
    }

    /// Prints the rest, and the end of the document.
    pub(super) fn finish(&mut self, skipped: &[String]) -> Result<(), Failure> {
        if self.arguments.format.json && self.rows > 0 {
            let skipped = json_line(&skipped)?;
            write!(self.text, "\n  ],\n  \"skipped\": {skipped}\n}}\n").expect("a string takes all");
        }
        self.flush()
    }

    fn line(&mut self, name: &str, top: &[Prediction], logits: &[f32]) {
        let cells: Vec<String> = if self.arguments.logits {
            logits.iter().map(ToString::to_string).collect()
        } else {
            top.iter().map(|class| format!("{} {:.2} %", line(&class.label), 100.0 * class.probability)).collect()
        };
        let cells = cells.join(if self.arguments.logits { " " } else { ", " });
        writeln!(self.text, "{}  {cells}", line(name)).expect("a string takes all");
    }

    fn csv(&mut self, name: &str, top: &[Prediction], logits: &[f32]) {
        let name = csv_field(name);
        if self.arguments.logits {
            if self.rows == 0 {
                let classes: String = (0..logits.len()).map(|class| format!(",{class}")).collect();
                writeln!(self.text, "input{classes}").expect("a string takes all");
            }
            let logits: String = logits.iter().map(|logit| format!(",{logit}")).collect();
            writeln!(self.text, "{name}{logits}").expect("a string takes all");
            return;
        }
        if self.rows == 0 {
            self.text += "input,rank,index,label,probability\n";
        }
        for (rank, Prediction { label, index, probability }) in top.iter().enumerate() {
            // The shortest digits that parse as the same number, in scientific notation if it is small.
            let probability = if *probability < 1e-4 { format!("{probability:e}") } else { probability.to_string() };
            let label = csv_field(label);
            writeln!(self.text, "{name},{},{index},{label},{probability}", rank + 1).expect("a string takes all");
        }
    }
}
