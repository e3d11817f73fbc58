//! `residual reproduce` through the compiled program.

use crate::support;

use support::{Place, json};

/// The quick forms of all claims: what CI runs of the papers and notes.
#[test]
fn every_quick_claim_is_measured_and_borne_out() {
    let place = Place::new();
    let document = json(&place.done(&["reproduce", "--quick", "--json", "--report", "claims.html"]));
    let claims = document["claims"].as_array().unwrap();
    let list = json(&place.done(&["reproduce", "list", "--json"]));
    let quick = list["claims"].as_array().unwrap().iter().filter(|claim| claim["minutes"].get("quick").is_some());
    assert_eq!(claims.len(), quick.count());
    for claim in claims {
        assert_eq!((&claim["verdict"], &claim["form"]), (&"PASS".into(), &"quick".into()), "{claim}");
        let judged = claim["measures"].as_array().unwrap().iter().filter(|measure| !measure["holds"].is_null());
        assert!(judged.count() > 0, "{claim}");
    }
    let page = std::fs::read_to_string(place.path("claims.html")).unwrap();
    assert!(!page.contains("http"), "the page needs no network");
    assert_eq!(page.matches("<section").count(), claims.len());
    assert!(page.matches("<svg").count() >= claims.len(), "{}", page.matches("<svg").count());
}

#[test]
fn what_cannot_be_run_is_said() {
    let place = Place::new();
    let unnamed = "error: claim: expected a name from `residual reproduce list`, got \"degradaton\" (did you mean \"degradation\"?)";
    place.refused(&["reproduce", "degradaton"], 2, unnamed);
    let form = "error: bottleneck: expected the form quick or full, got short";
    place.refused(&["reproduce", "bottleneck", "--short"], 2, form);
    let missing = place.done(&["reproduce", "he2015-resnet20", "--full"]);
    assert!(missing.starts_with("NOT RUN (the files of cifar10 are not in --data-dir)"), "{missing}");
    let missing = place.done(&["reproduce", "published-weights"]);
    assert!(missing.starts_with("NOT RUN (no images of ImageNet were given (--imagenet DIR))"), "{missing}");
}
