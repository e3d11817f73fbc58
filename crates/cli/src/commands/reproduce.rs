//! `residual reproduce`.

use crate::args::{Format, Reproduce};
use crate::failure::Failure;
use crate::output::{line, print, print_json};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::{Done, machine};
use residual::reproduce::{CLAIMS, Claim, Context, Finding, Form, Measure, ReproduceError, Verdict, page};
use serde_json::{Value, json};

pub(crate) fn run(arguments: &Reproduce, stop: &Stop) -> Result<Done, Failure> {
    if arguments.names.iter().any(|name| name == "list") {
        return list(arguments.format);
    }
    stop.handle_warnings()?;
    let options = machine::options(arguments.threads)?;
    let claims = claims(arguments)?;
    let (mut findings, mut failed) = (Vec::new(), 0);
    for (claim, form) in claims {
        let progress = Progress::new();
        let mut show =
            |now: &residual::reproduce::Progress<'_>| progress.steps(now.what, now.done as usize, now.total as usize);
        let mut context = Context {
            form,
            options: &options,
            runs: &arguments.output,
            data_dir: arguments.data_dir.as_deref(),
            imagenet: arguments.imagenet.as_deref(),
            stop: stop.listen(),
            on_progress: &mut show,
        };
        let finding = claim.reproduce(&mut context);
        progress.finish();
        let finding = match finding {
            Err(ReproduceError::Interrupted { .. }) => return Ok(Done::Interrupted),
            other => other?,
        };
        failed += u64::from(finding.verdict == Verdict::Fail);
        if !arguments.format.json {
            print(&text(claim, form, &finding))?;
        }
        findings.push((claim, form, finding));
    }
    if let Some(path) = &arguments.report {
        let page = page(&findings);
        residual::files::atomic_write(path, |file| file.write_all(page.as_bytes()))?;
    }
    if arguments.format.json {
        let claims = findings.iter().map(|(claim, form, finding)| document(claim, *form, finding)).collect::<Vec<_>>();
        print_json(&json!({ "claims": claims, "failed": failed }))?;
    }
    match failed {
        0 => Ok(Done::Finished),
        failed => Err(Failure::new(format!("expected every claim to be borne out, got {failed} that are not"))),
    }
}

/// The claims that were named, or all, each with the form that is run.
fn claims(arguments: &Reproduce) -> Result<Vec<(&'static Claim, Form)>, Failure> {
    let wanted = arguments.form();
    if arguments.names.is_empty() {
        let with_form = |claim: &'static Claim| wanted.filter(|form| claim.has(*form)).map(|form| (claim, form));
        return Ok(CLAIMS.iter().filter_map(with_form).collect());
    }
    let named = arguments.names.iter().map(|name| {
        let claim = Claim::find(name)?;
        Ok((claim, wanted.unwrap_or(claim.forms[0].0)))
    });
    named.collect()
}

fn list(format: Format) -> Result<Done, Failure> {
    if format.json {
        let claims = CLAIMS.iter().map(|claim| {
            let forms: serde_json::Map<String, Value> =
                claim.forms.iter().map(|(form, minutes)| (form.name().to_owned(), json!(minutes))).collect();
            let Claim { name, title, source, runs, expected, .. } = claim;
            json!({ "name": name, "title": title, "source": source, "runs": runs, "expected": expected, "minutes": forms })
        });
        print_json(&json!({ "claims": claims.collect::<Vec<_>>() }))?;
        return Ok(Done::Finished);
    }
    for claim in CLAIMS {
        let forms = claim.forms.iter().map(|(form, minutes)| format!("{} {}", form.name(), minutes_text(*minutes)));
        print(&format!("{}\n  {}\n  {}\n", claim.name, claim.title, forms.collect::<Vec<_>>().join(" · ")))?;
    }
    print("\nTimes are of two cores. residual reproduce NAME [--short|--full] --data-dir DIR\n")?;
    Ok(Done::Finished)
}

fn minutes_text(minutes: f64) -> String {
    match minutes {
        minutes if minutes < 1.0 => format!("{:.0} s", (60.0 * minutes).max(1.0)),
        minutes if minutes < 120.0 => format!("{minutes:.0} min"),
        minutes => format!("{:.0} h", minutes / 60.0),
    }
}

fn text(claim: &Claim, form: Form, finding: &Finding) -> String {
    let verdict = verdict(&finding.verdict);
    let mut text = format!("{verdict}  {}, {} form\n  {}\n", claim.name, form.name(), claim.title);
    for Measure { what, expected, got, holds } in &finding.measures {
        let mark = match holds {
            Some(true) => "ok  ",
            Some(false) => "FAIL",
            None => "    ",
        };
        let expected =
            if expected.is_empty() || expected == got { String::new() } else { format!(" (expected {expected})") };
        text += &format!("  {mark}  {}\n", line(&format!("{what}: {got}{expected}")));
    }
    finding.notes.iter().for_each(|note| text += &format!("        {note}\n"));
    text
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::NotRun(reason) => format!("NOT RUN ({reason})"),
        Verdict::NotRunInFull { hours } => format!("NOT RUN IN FULL (about {hours:.1} hours)"),
        other => other.name().to_owned(),
    }
}

fn document(claim: &Claim, form: Form, finding: &Finding) -> Value {
    let measure = |Measure { what, expected, got, holds }: &Measure| json!({ "what": what, "expected": expected, "got": got, "holds": holds });
    let (reason, hours) = match &finding.verdict {
        Verdict::NotRun(reason) => (Some(reason), None),
        Verdict::NotRunInFull { hours } => (None, Some(hours)),
        Verdict::Pass | Verdict::Fail => (None, None),
    };
    json!({
        "name": claim.name,
        "title": claim.title,
        "source": claim.source,
        "form": form.name(),
        "verdict": finding.verdict.name(),
        "reason": reason,
        "hours": hours,
        "measures": finding.measures.iter().map(measure).collect::<Vec<_>>(),
        "notes": finding.notes,
    })
}
