//! HTML pages: one file with its style and script, which loads nothing. Outside of them it is well-formed XML, too.

use crate::escape;
use crate::paint::css;

/// The style of a page, beside that of its pictures.
const STYLE: &str = include_str!("page.css");
/// The script: sorts tables, shows values on hover and touch, and switches the theme. A page is complete without it.
const SCRIPT: &str = include_str!("page.js");

/// A page in sections.
pub struct Page {
    title: String,
    header: String,
    sections: Vec<(String, String, String)>,
}

impl Page {
    /// An empty page; `header` is HTML.
    pub fn new(title: impl Into<String>, header: String) -> Self {
        Self { title: title.into(), header, sections: Vec::new() }
    }

    /// Adds a section of HTML. `id` is its place in the page's address.
    pub fn section(&mut self, id: &str, title: &str, body: String) {
        self.sections.push((id.to_owned(), title.to_owned(), body));
    }

    /// The file.
    pub fn finish(&self) -> String {
        let title = escape(&self.title);
        let entry =
            |(id, title, _): &(String, String, String)| format!("<li><a href=\"#{id}\">{}</a></li>", escape(title));
        let entries: String = self.sections.iter().map(entry).collect();
        let section = |(id, title, body): &(String, String, String)| {
            format!(
                "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{}</h2>\n{body}</section>\n",
                escape(title)
            )
        };
        let sections: String = self.sections.iter().map(section).collect();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{title}</title>\n\
             <style>\n{}{STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#content\">Skip to the content</a>\n\
             <header>\n<div class=\"top\"><h1>{title}</h1><button type=\"button\" id=\"theme\" hidden=\"\">Light / dark</button></div>\n{}\
             <nav aria-label=\"Sections\"><ul>{entries}</ul></nav>\n</header>\n<main id=\"content\">\n{sections}</main>\n\
             <div id=\"tip\" role=\"status\" hidden=\"\"></div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
            css(),
            self.header,
        )
    }
}

/// A cell of a table: its text, and what it is sorted by if that is a number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    text: String,
    number: Option<f64>,
    class: &'static str,
}

impl Cell {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A number, shown as `text`.
    pub fn number(value: f64, text: impl Into<String>) -> Self {
        Self { text: text.into(), number: Some(value), ..Self::default() }
    }

    /// With a CSS class.
    pub fn marked(self, class: &'static str) -> Self {
        Self { class, ..self }
    }
}

/// A table that its headings sort, if `sortable`. It scrolls sideways where it is too wide.
pub fn table(caption: &str, head: &[&str], rows: &[Vec<Cell>], sortable: bool) -> String {
    let heading = |name: &&str| match sortable {
        true => format!("<th scope=\"col\"><button type=\"button\">{}</button></th>", escape(name)),
        false => format!("<th scope=\"col\">{}</th>", escape(name)),
    };
    let cell = |(index, cell): (usize, &Cell)| {
        let number = cell.number.map(|value| format!(" data-value=\"{value}\"")).unwrap_or_default();
        let mut classes = vec![cell.class];
        if cell.number.is_some() {
            classes.push("number");
        }
        classes.retain(|class| !class.is_empty());
        let class = if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.join(" ")) };
        let text = escape(&cell.text);
        match index {
            0 => format!("<th scope=\"row\"{number}{class}>{text}</th>"),
            _ => format!("<td{number}{class}>{text}</td>"),
        }
    };
    let row = |cells: &Vec<Cell>| format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>());
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\">\n<table{}>\n<caption>{caption}</caption>\n\
         <thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table>\n</div>\n",
        if sortable { " class=\"sortable\"" } else { "" },
        head.iter().map(heading).collect::<String>(),
        rows.iter().map(row).collect::<String>(),
        caption = escape(caption),
    )
}

/// Names and values; the values are HTML.
pub fn facts(rows: &[(&str, String)]) -> String {
    let row = |(name, value): &(&str, String)| format!("<div><dt>{}</dt><dd>{value}</dd></div>\n", escape(name));
    format!("<dl>\n{}</dl>\n", rows.iter().map(row).collect::<String>())
}

/// Pictures side by side, as many as fit.
pub fn figures(pictures: &[String]) -> String {
    let figure = |picture: &String| format!("<figure>{picture}</figure>\n");
    format!("<div class=\"figures\">\n{}</div>\n", pictures.iter().map(figure).collect::<String>())
}

/// A paragraph of plain text. Flags of commands, words that begin with two hyphens, are not broken at them.
pub fn paragraph(text: &str) -> String {
    let word = |word: &str| match word.trim_start_matches('(').starts_with("--") {
        true => format!("<span class=\"flag\">{}</span>", escape(word)),
        false => escape(word),
    };
    format!("<p>{}</p>\n", text.split(' ').map(word).collect::<Vec<_>>().join(" "))
}

/// A part that is closed at first.
pub fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>\n{body}</details>\n", escape(summary))
}
