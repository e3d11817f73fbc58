//! The page of findings: measurements and pictures in one self-contained HTML file.

use crate::{Claim, Finding, Form, Measure, Verdict};
use residual_report::{css, escape};

/// The page of these findings.
pub fn page(findings: &[(&Claim, Form, Finding)]) -> String {
    let rows: String = findings.iter().map(|(claim, form, finding)| overview(claim, *form, finding)).collect();
    let sections: String = findings.iter().map(|(claim, form, finding)| section(claim, *form, finding)).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Claims, reproduced</title>\n\
         <style>\n{}\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Claims, reproduced</h1>\n\
         <table>\n<thead><tr><th>claim</th><th>form</th><th>verdict</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n\
         {sections}</main>\n</body>\n</html>\n",
        css()
    )
}

const STYLE: &str = "body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: var(--paper); color: var(--ink); }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid var(--grid); overflow-wrap: anywhere; }
dt { color: var(--muted); float: left; clear: left; width: 6rem; }
dd { margin: 0 0 0.25rem 6rem; }
svg { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
a { color: var(--c0); }
.pass { color: var(--good); }
.fail { color: var(--bad); }
@media print { section { break-inside: avoid; } }
";

fn overview(claim: &Claim, form: Form, finding: &Finding) -> String {
    let (name, verdict) = (claim.name, verdict(&finding.verdict));
    format!(
        "<tr><td><a href=\"#{name}\">{name}</a><br>{}</td><td>{}</td><td>{verdict}</td></tr>\n",
        escape(claim.title),
        form.name()
    )
}

fn section(claim: &Claim, form: Form, finding: &Finding) -> String {
    let facts = [("source", claim.source), ("run", claim.runs), ("expected", claim.expected), ("form", form.name())];
    let facts: String =
        facts.iter().map(|(name, text)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(text))).collect();
    let measure = |Measure { what, expected, got, holds }: &Measure| {
        let mark = match holds {
            Some(true) => "<span class=\"pass\">ok</span>",
            Some(false) => "<span class=\"fail\">FAIL</span>",
            None => "",
        };
        let cells = [what, expected, got].map(|text| format!("<td>{}</td>", escape(text))).concat();
        format!("<tr>{cells}<td>{mark}</td></tr>\n")
    };
    let measures: String = finding.measures.iter().map(measure).collect();
    let head = "<thead><tr><th>measure</th><th>expected</th><th>measured</th><th></th></tr></thead>";
    let table = if measures.is_empty() {
        String::new()
    } else {
        format!("<table>\n{head}\n<tbody>\n{measures}</tbody>\n</table>\n")
    };
    let notes: String = finding.notes.iter().map(|note| format!("<p>{}</p>\n", escape(note))).collect();
    let pictures: String = finding.pictures.iter().map(|picture| picture.svg.to_html()).collect();
    let (name, verdict, title) = (claim.name, verdict(&finding.verdict), escape(claim.title));
    format!(
        "<section id=\"{name}\">\n<h2>{title}</h2>\n<p>{verdict}</p>\n<dl>\n{facts}</dl>\n{table}{notes}{pictures}</section>\n"
    )
}

fn verdict(verdict: &Verdict) -> String {
    let name = verdict.name();
    match verdict {
        Verdict::Pass => format!("<strong class=\"pass\">{name}</strong>"),
        Verdict::Fail => format!("<strong class=\"fail\">{name}</strong>"),
        Verdict::NotRun(reason) => format!("<strong>{name}</strong>: {}", escape(reason)),
        Verdict::NotRunInFull { hours } => format!("<strong>{name}</strong>: about {hours:.1} hours"),
    }
}
