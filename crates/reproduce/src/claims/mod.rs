//! The claims, one file for each kind.

mod architectures;
mod bottleneck;
mod comparison;
mod degradation;
mod gradient_flow;
mod identity_mapping;
mod layer_responses;
mod overfitting;
mod parameters;
mod published_weights;
mod receptive_field;
mod shortcut_memory;
mod trainings;
mod transfer;

use crate::Claim;

/// Every claim.
pub static CLAIMS: &[Claim] = &[
    architectures::CLAIM,
    parameters::CLAIM,
    receptive_field::CLAIM,
    shortcut_memory::CLAIM,
    bottleneck::CLAIM,
    comparison::CLAIM,
    gradient_flow::CLAIM,
    identity_mapping::CLAIM,
    identity_mapping::TARGET,
    degradation::CLAIM,
    layer_responses::CLAIM,
    overfitting::CLAIM,
    transfer::CLAIM,
    trainings::RESNET20,
    trainings::RESNET32,
    trainings::RESNET44,
    trainings::RESNET56,
    trainings::RESNET110,
    trainings::LECTURE_CIFAR,
    trainings::LECTURE_RESNET50,
    trainings::WIDE,
    trainings::PREACT,
    trainings::RESNEXT,
    published_weights::CLAIM,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Form;

    #[test]
    fn the_list_is_complete_and_names_are_unique() {
        let mut names: Vec<&str> = CLAIMS.iter().map(|claim| claim.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CLAIMS.len());
        for claim in CLAIMS {
            assert!(!claim.forms.is_empty(), "{}", claim.name);
            assert!(claim.forms.is_sorted_by(|(a, _), (b, _)| a < b), "{}", claim.name);
            for (form, minutes) in claim.forms {
                let limit =
                    [(Form::Quick, 2.0), (Form::Short, 100.0)].iter().find(|(each, _)| each == form).map(|at| at.1);
                assert!(limit.is_none_or(|limit| *minutes <= limit), "{}: {minutes} minutes", claim.name);
            }
        }
        let quick: f64 =
            CLAIMS.iter().flat_map(|claim| claim.forms).filter(|(form, _)| *form == Form::Quick).map(|at| at.1).sum();
        assert!(quick <= 5.0, "the quick forms take {quick} minutes together");
    }
}
