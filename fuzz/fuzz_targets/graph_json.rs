#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(graph) = residual_graph::Graph::from_json(text) {
        // A graph that was accepted can be analysed and survives its own JSON.
        let [_, height, width] = graph.input_size();
        graph.analyse(height, width).expect("a validated graph has shapes");
        assert_eq!(residual_graph::Graph::from_json(&graph.to_json()), Ok(graph));
    }
});
