//! Multiply-accumulates equal those that fvcore counts; `macs/write.py` wrote them.

use residual_zoo::find;

#[test]
fn multiply_accumulates_are_fvcores() {
    let lines = include_str!("../macs/fvcore.txt").lines();
    let mut count = 0;
    for (name, macs) in lines.map(|line| line.split_once(' ').unwrap()) {
        let graph = find(name).unwrap().config.graph().unwrap();
        let [_, height, width] = graph.input_size();
        assert_eq!(graph.analyse(height, width).unwrap().macs, macs.parse::<u64>().unwrap(), "{name}");
        count += 1;
    }
    assert_eq!(count, 8);
}
