//! Every network that torchvision or timm has too has their state dict, parameters and multiply-accumulates. The lists
//! were written by `keys/write.py`.

use residual_zoo::build;

const LISTS: [&str; 10] = [
    include_str!("../keys/resnet.txt"),
    include_str!("../keys/resnet_d.txt"),
    include_str!("../keys/seresnet.txt"),
    include_str!("../keys/resnext.txt"),
    include_str!("../keys/wide.txt"),
    include_str!("../keys/resnetv2.txt"),
    include_str!("../keys/convnext.txt"),
    include_str!("../keys/vgg.txt"),
    include_str!("../keys/densenet.txt"),
    include_str!("../keys/googlenet.txt"),
];

/// One network of a list: its name, parameters, multiply-accumulates, and `key shape` lines.
struct Listed {
    name: String,
    parameters: usize,
    macs: u64,
    tensors: Vec<String>,
}

fn listed() -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for line in LISTS.iter().flat_map(|list| list.lines()) {
        match line.strip_prefix("# ") {
            Some(head) => {
                let words: Vec<&str> = head.split(' ').collect();
                let [name, parameters, macs] = words[..] else { panic!("{line}") };
                let (parameters, macs) = (parameters.parse().unwrap(), macs.parse().unwrap());
                all.push(Listed { name: name.into(), parameters, macs, tensors: Vec::new() });
            }
            None => all.last_mut().unwrap().tensors.push(line.into()),
        }
    }
    all
}

#[test]
fn state_dicts_are_torchvisions_and_timms_in_order() {
    let all = listed();
    assert_eq!(all.len(), 26);
    for Listed { name, mut tensors, .. } in all {
        let graph = build(&name, 1000).unwrap();
        let line = |(key, spec): (String, residual_graph::ParameterSpec)| {
            let shape: Vec<String> = spec.shape.iter().map(ToString::to_string).collect();
            format!("{key} {}", if shape.is_empty() { "-".into() } else { shape.join("x") })
        };
        let mut ours: Vec<String> = graph.parameters().map(line).collect();
        // timm's pre-activation blocks list their shortcut before the norm that it reads.
        if name.starts_with("resnetv2") {
            ours.sort();
            tensors.sort();
        }
        for (ours, theirs) in ours.iter().zip(&tensors) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(ours.len(), tensors.len(), "{name}");
    }
}

#[test]
fn parameters_and_multiply_accumulates_are_torchs() {
    for Listed { name, parameters, macs, .. } in listed() {
        let analysis = build(&name, 1000).unwrap().analyse(224, 224).unwrap();
        assert_eq!(analysis.parameters, parameters, "{name}");
        assert_eq!(analysis.macs, macs, "{name}");
    }
}
