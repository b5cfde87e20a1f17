//! Formats the report of an evaluation as Markdown.

use std::fmt::Write;

use super::disguise::DisguiseCounts;
use super::report::{EvaluationReport, Group, RunRow, Section};
use super::scored::{BENIGN, HARVEST};
use super::statistics::{Curve, Rate};

/// Formats a report. The page contains no time, so the same corpus and rules always give the same
/// page.
pub fn format(report: &EvaluationReport) -> String {
    let mut page = String::new();
    let mut write = |part: String| page.push_str(&part);
    write(head(report));
    write(labels("Detection of single requests", &report.alone));
    if let Some(correlated) = &report.correlated {
        write(labels("Detection with correlation", correlated));
    }
    write(curves(report));
    write(groups("By language", "language", &report.alone.languages));
    write(groups("By dialect", "dialect", &report.alone.dialects));
    if let Some(disguises) = &report.disguises {
        write(disguise_table(disguises));
    }
    write(contributions(report));
    write(benign_runs_at_notice(report.last_section()));
    write(runs(report));
    page
}

fn head(report: &EvaluationReport) -> String {
    let calls = match report.not_llm_calls {
        0 => String::new(),
        count => format!(" {} requests are not LLM calls.", thousands(count)),
    };
    let not_judged = match report.not_judged {
        0 => String::new(),
        count => format!(" {} requests were not judged: body unknown.", thousands(count)),
    };
    format!(
        "Ruleset `{}`, {} requests.{calls}{not_judged} A rate in brackets is a 95 % interval by \
         Clopper and\n\
         Pearson. It takes requests for independent; those of one run are not, so the intervals\n\
         of runs are the honest ones.\n",
        report.ruleset,
        thousands(report.requests),
    )
}

/// Returns the table of a section with a row for each label.
fn labels(title: &str, section: &Section) -> String {
    let mut text = format!("\n## {title}\n\n");
    let header = ["label", "requests", "≥ notice", "≥ suspect", "hostile", RUNS, ACCOUNTS];
    let rows = section.labels.iter().map(|group| {
        [
            group.label.clone(),
            thousands(group.requests),
            rate(&group.notice),
            rate(&group.suspect),
            rate(&group.hostile),
            count_rate(&group.runs_suspect),
            count_rate(&group.accounts_suspect),
        ]
    });
    text += &table(&header, &[0], rows);
    text
}

const RUNS: &str = "runs with a suspect request";
const ACCOUNTS: &str = "accounts with one";

fn curves(report: &EvaluationReport) -> String {
    let mut text = "\n## Thresholds\n\nTrue and false positive rate at each score, of requests, \
        accounts and runs; the score of an account or run\nis the highest of its requests. \
        *AUC* is the probability that a harvest scores higher than other traffic.\n"
        .to_owned();
    let sections = [("without correlation", Some(&report.alone))];
    let sections = sections.into_iter().chain([("with correlation", report.correlated.as_ref())]);
    for (name, section) in sections.filter_map(|(name, section)| Some((name, section?))) {
        let _ = write!(text, "\n### Thresholds {name}\n\n");
        text += &curve_table(&section.curves);
    }
    text
}

/// Returns a table with a column for each level (requests, accounts, runs) and a row for each
/// threshold.
fn curve_table(curves: &[Curve]) -> String {
    let titles: Vec<String> = curves.iter().map(|curve| format!("{}s", curve.level)).collect();
    let header: Vec<&str> =
        std::iter::once("score").chain(titles.iter().map(String::as_str)).collect();
    let auc =
        curves.iter().map(|curve| curve.auc.map_or("–".to_owned(), |auc| format!("{auc:.3}")));
    let mut rows = vec![std::iter::once("AUC".to_owned()).chain(auc).collect::<Vec<String>>()];
    let points = curves.first().map(|curve| curve.points.len()).unwrap_or_default();
    for index in 0..points {
        let points = curves.iter().filter_map(|curve| curve.points.get(index));
        let mut row = Vec::new();
        for point in points {
            if row.is_empty() {
                row.push(format!("≥ {}", point.threshold));
            }
            row.push(format!(
                "{} / {}",
                percent(point.true_positive_rate),
                percent(point.false_positive_rate)
            ));
        }
        rows.push(row);
    }
    table(&header, &[], rows)
}

/// Returns the table of requests by label and by a property: language or dialect.
fn groups(title: &str, property: &str, groups: &[Group]) -> String {
    let mut text = format!("\n## {title}\n\nSingle requests, without correlation.\n\n");
    let header = ["label", property, "requests", "≥ notice", "≥ suspect", RUNS];
    let rows = groups.iter().map(|group| {
        [
            group.label.clone(),
            group.name.clone(),
            thousands(group.requests),
            rate(&group.notice),
            rate(&group.suspect),
            count_rate(&group.runs_suspect),
        ]
    });
    text += &table(&header, &[0, 1], rows);
    text
}

fn disguise_table(disguises: &[DisguiseCounts]) -> String {
    let mut text =
        "\n## Under disguises\n\nAt most 25 chat requests of each harvest run, changed in \
        one way each, without correlation.\n\n"
            .to_owned();
    let plain = disguises.first().map(|first| first.suspect_rate().share).unwrap_or_default();
    let header = ["disguise", "requests", "≥ notice", "≥ suspect", "change"];
    let rows = disguises.iter().map(|counts| {
        let suspect = counts.suspect_rate();
        [
            counts.name.to_owned(),
            thousands(counts.requests),
            rate(&Rate::new(counts.notice, counts.requests)),
            rate(&suspect),
            format!("{:+.1}", 100.0 * (suspect.share - plain)),
        ]
    });
    text += &table(&header, &[0], rows);
    text
}

/// Returns the tables of the contributions of families and signatures.
fn contributions(report: &EvaluationReport) -> String {
    let mut text =
        "\n## Contribution of each family and signature\n\n*Only with it*: requests that would \
        not reach the band without it.\n"
            .to_owned();
    for (title, contributions) in [("family", &report.families), ("signature", &report.signatures)]
    {
        let header = [
            title,
            "weight",
            "harvest requests",
            "suspect only with it",
            "in runs",
            "benign requests",
            "notice only with it",
            "suspect only with it",
        ];
        let rows = contributions.iter().map(|contribution| {
            [
                format!("`{}`", contribution.name),
                if title == "family" { "–".to_owned() } else { contribution.weight.to_string() },
                thousands(contribution.harvest_hits),
                thousands(contribution.harvest_suspect_only),
                thousands(contribution.harvest_runs_only),
                thousands(contribution.benign_hits),
                thousands(contribution.benign_notice_only),
                thousands(contribution.benign_suspect_only),
            ]
        });
        text += "\n";
        text += &table(&header, &[0], rows);
    }
    text
}

/// Returns the table of benign runs with requests at notice or above, and of their most frequent
/// signatures.
fn benign_runs_at_notice(section: &Section) -> String {
    let is_lifted = |run: &&RunRow| run.label == BENIGN && run.notice > 0;
    let lifted: Vec<&RunRow> = section.runs.iter().filter(is_lifted).collect();
    let mut text = "\n## Benign runs at notice or above\n\n".to_owned();
    if lifted.is_empty() {
        text += "None.\n";
        return text;
    }
    let header = ["run", "requests", "≥ notice", "≥ suspect", "signatures"];
    let rows = lifted.iter().map(|run| {
        let top: Vec<String> = run.top.iter().map(|name| format!("`{name}`")).collect();
        [
            run.name.clone(),
            thousands(run.requests),
            thousands(run.notice),
            thousands(run.suspect),
            top.join(", "),
        ]
    });
    text += &table(&header, &[0, 4], rows);
    text
}

/// Returns two tables of runs: without correlation, and with correlation if it was scored.
fn runs(report: &EvaluationReport) -> String {
    let mut text =
        "\n## Runs\n\nThe requests of one job of one program. *Flagged*: accounts with a \
        suspect request.\n"
            .to_owned();
    let sections = [("without correlation", Some(&report.alone))];
    let sections = sections.into_iter().chain([("with correlation", report.correlated.as_ref())]);
    for (name, section) in sections.filter_map(|(name, section)| Some((name, section?))) {
        let _ = write!(text, "\n### Runs {name}\n\n");
        let mut rows: Vec<&RunRow> = section.runs.iter().collect();
        let order = |label: &str| match label {
            HARVEST => 0,
            BENIGN => 1,
            _ => 2,
        };
        rows.sort_by_key(|run| (order(&run.label), run.label.clone(), run.name.clone()));
        let header =
            ["label", "run", "requests", "≥ notice", "≥ suspect", "hostile", "first", "flagged"];
        let rows = rows.iter().map(|run| {
            [
                run.label.clone(),
                run.name.clone(),
                thousands(run.requests),
                thousands(run.notice),
                thousands(run.suspect),
                thousands(run.hostile),
                run.first_suspect.map_or("–".to_owned(), |first| first.to_string()),
                format!("{} of {}", run.accounts_suspect, run.accounts),
            ]
        });
        text += &table(&header, &[0, 1], rows);
    }
    text
}

/// Returns a table. The columns with the indices `text_columns` contain text and are aligned to the
/// left. The others contain numbers and are aligned to the right.
fn table<R: IntoIterator<Item = String>>(
    header: &[&str],
    text_columns: &[usize],
    rows: impl IntoIterator<Item = R>,
) -> String {
    let mut text = format!("| {} |\n|", header.join(" | "));
    for column in 0..header.len() {
        text += if text_columns.contains(&column) { "---|" } else { "---:|" };
    }
    text += "\n";
    for row in rows {
        let cells: Vec<String> = row.into_iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// Returns a share in percent with its interval, such as `43.1 % [40.2–46.0]`, or `–` if the total
/// is 0.
fn rate(rate: &Rate) -> String {
    if rate.total == 0 {
        return "–".to_owned();
    }
    format!(
        "{} [{}–{}]",
        percent(rate.share),
        percent(rate.low).trim_end_matches(" %"),
        percent(rate.high).trim_end_matches(" %")
    )
}

/// Returns a count, its total, and the interval of the share: `0 of 10 [0–30.8 %]`.
fn count_rate(rate: &Rate) -> String {
    format!(
        "{} of {} [{}–{}]",
        rate.count,
        rate.total,
        percent(rate.low).trim_end_matches(" %"),
        percent(rate.high)
    )
}

/// Returns a share in percent: with two decimals below 1 %, and otherwise with one. 0 and values
/// that round to 100 % have no decimals.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        0.0 => "0 %".to_owned(),
        percent if percent < 1.0 => format!("{percent:.2} %"),
        percent if percent < 99.95 => format!("{percent:.1} %"),
        _ => "100 %".to_owned(),
    }
}

/// Returns a number with commas: `4,132`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let rows = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        for (number, expected) in rows {
            assert_eq!(thousands(number), expected);
        }
        let rows = [(0.0, "0 %"), (0.0009, "0.09 %"), (0.43, "43.0 %"), (1.0, "100 %")];
        for (share, expected) in rows {
            assert_eq!(percent(share), expected);
        }
        assert_eq!(rate(&Rate::new(5, 10)), "50.0 % [18.7–81.3]");
        assert_eq!(count_rate(&Rate::new(0, 10)), "0 of 10 [0–30.8 %]");
        let text = table(&["a", "b"], &[0], [["x|y".to_owned(), "1".to_owned()]]);
        assert_eq!(text, "| a | b |\n|---|---:|\n| x\\|y | 1 |\n");
    }

    #[test]
    fn columns_of_text_are_aligned_to_the_left() {
        let run = RunRow {
            label: BENIGN.to_owned(),
            tool: String::new(),
            name: "tutor".to_owned(),
            requests: 10,
            notice: 2,
            suspect: 1,
            hostile: 0,
            first_suspect: None,
            accounts: 1,
            accounts_suspect: 1,
            top: vec!["synthesis_a".to_owned(), "synthesis_b".to_owned()],
        };
        let (labels, languages, dialects, curves) = (vec![], vec![], vec![], vec![]);
        let section = Section { labels, languages, dialects, runs: vec![run], curves };
        let expected = "| run | requests | ≥ notice | ≥ suspect | signatures |\n\
            |---|---:|---:|---:|---|\n| tutor | 10 | 2 | 1 | `synthesis_a`, `synthesis_b` |\n";
        assert!(benign_runs_at_notice(&section).ends_with(expected));
    }
}
