//! `residual models list`.

use crate::Done;
use crate::args::Format;
use crate::failure::Failure;
use crate::output::{grouped, print, print_json, table};
use residual::zoo;
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    name: &'static str,
    parameters: usize,
    macs: u64,
    input: [usize; 3],
    classes: usize,
    source: &'static str,
}

pub(crate) fn list(format: Format) -> Result<Done, Failure> {
    let row = |entry: zoo::Entry| {
        let graph = entry.graph(entry.num_classes)?;
        let [channels, height, width] = graph.input_size();
        let analysis = graph.analyse(height, width)?;
        Ok(Row {
            name: entry.name,
            parameters: analysis.parameters,
            macs: analysis.macs,
            input: [height, width, channels],
            classes: entry.num_classes,
            source: entry.source,
        })
    };
    let rows = zoo::entries().into_iter().map(row).collect::<Result<Vec<_>, Failure>>()?;
    if format.json {
        print_json(&serde_json::json!({ "models": rows }))?;
        return Ok(Done::Finished);
    }
    let head = ["name", "parameters", "MACs", "input", "classes", "source"].map(String::from).to_vec();
    let line = |row: &Row| {
        let [height, width, channels] = row.input;
        vec![
            row.name.to_owned(),
            grouped(row.parameters as u64),
            grouped(row.macs),
            format!("{height}×{width}×{channels}"),
            row.classes.to_string(),
            row.source.to_owned(),
        ]
    };
    print(&table(&std::iter::once(head).chain(rows.iter().map(line)).collect::<Vec<_>>()))?;
    Ok(Done::Finished)
}
