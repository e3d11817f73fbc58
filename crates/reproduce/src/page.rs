//! The page of findings: measurements and pictures in one self-contained HTML file.

use crate::{Claim, Finding, Form, Verdict};
use residual_report::escape;
use residual_report::html::{Cell, Page, facts, figures, paragraph, table};

/// The page of these findings.
pub fn page(findings: &[(&Claim, Form, Finding)]) -> String {
    let row = |(claim, form, finding): &(&Claim, Form, Finding)| {
        vec![Cell::text(claim.name), Cell::text(form.name()), verdict(&finding.verdict), Cell::text(claim.title)]
    };
    let rows: Vec<Vec<Cell>> = findings.iter().map(row).collect();
    let overview = table("Claims", &["claim", "form", "verdict", "what it says"], &rows, false);
    let mut page = Page::new("Claims, reproduced", overview);
    for (claim, form, finding) in findings {
        page.section(claim.name, claim.name, section(claim, *form, finding));
    }
    page.finish()
}

fn section(claim: &Claim, form: Form, finding: &Finding) -> String {
    let facts = facts(
        &[("source", claim.source), ("what is run", claim.runs), ("expected", claim.expected), ("form", form.name())]
            .map(|(name, text)| (name, escape(text))),
    );
    let rows = finding.measures.iter().map(|measure| {
        let mark = match measure.holds {
            Some(true) => Cell::text("ok").marked("good"),
            Some(false) => Cell::text("FAIL").marked("bad"),
            None => Cell::default(),
        };
        let texts = [&measure.what, &measure.expected, &measure.got].map(|text| Cell::text(text.as_str()));
        [texts.to_vec(), vec![mark]].concat()
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    let measures = match rows.is_empty() {
        true => String::new(),
        false => table("Measurements", &["measure", "expected", "measured", ""], &rows, false),
    };
    let notes: String = finding.notes.iter().map(|note| paragraph(note)).collect();
    let pictures: Vec<String> = finding.pictures.iter().map(|picture| picture.svg.to_html()).collect();
    [paragraph(claim.title), facts, measures, notes, figures(&pictures)].concat()
}

fn verdict(verdict: &Verdict) -> Cell {
    let name = verdict.name();
    match verdict {
        Verdict::Pass => Cell::text(name).marked("good"),
        Verdict::Fail => Cell::text(name).marked("bad"),
        Verdict::NotRun(reason) => Cell::text(format!("{name}: {reason}")),
        Verdict::NotRunInFull { hours } => Cell::text(format!("{name}: about {hours:.1} hours")),
    }
}
