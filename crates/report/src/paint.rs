//! Colours, light and dark.
//!
//! Marks have CSS classes, whose colours are CSS variables with a light and a dark value. Each class names its light colour
//! first, for programs that know no variables.

/// A colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paint {
    /// Text.
    #[default]
    Ink,
    /// Less important text, and axes.
    Muted,
    /// Grid lines and borders.
    Grid,
    /// The background.
    Paper,
    /// The background of a part that stands out.
    Panel,
    /// A series; they repeat after 8. Told apart with the common forms of colour blindness too (Okabe & Ito).
    Series(usize),
    /// A good value.
    Good,
    /// A bad value.
    Bad,
    /// One colour in both themes, for values of a colour map: red, green and blue.
    Rgb([u8; 3]),
}

/// Number of different series colours.
const SERIES: usize = 8;

/// Name, light and dark colour.
const THEME: [(&str, &str, &str); 7 + SERIES] = [
    ("ink", "#1c2128", "#e6e9ed"),
    ("muted", "#5a6572", "#a3adb8"),
    ("grid", "#d5dae0", "#3a424c"),
    ("paper", "#ffffff", "#15191e"),
    ("panel", "#f3f5f7", "#1f252c"),
    ("good", "#0a7d4f", "#3ecf8e"),
    ("bad", "#c0392b", "#ff7b6b"),
    ("c0", "#0072b2", "#4db3ee"),
    ("c1", "#d55e00", "#ff9350"),
    ("c2", "#008f68", "#2bc596"),
    ("c3", "#b4558d", "#e48fc3"),
    ("c4", "#a87400", "#f0b83c"),
    ("c5", "#3d7fa6", "#8cccf0"),
    ("c6", "#6b4fbb", "#b29cf5"),
    ("c7", "#7a5c3e", "#c9a986"),
];

impl Paint {
    /// Its class for `role`, or the attribute that sets it.
    pub(crate) fn attribute(self, role: Role) -> String {
        let (prefix, property) = role.names();
        match self {
            Self::Rgb([r, g, b]) => format!(" {property}=\"#{r:02x}{g:02x}{b:02x}\""),
            other => format!(" class=\"{prefix}-{}\"", other.name()),
        }
    }

    /// Its class alone; `None` for a fixed colour.
    pub(crate) fn class(self, role: Role) -> Option<String> {
        (!matches!(self, Self::Rgb(_))).then(|| format!("{}-{}", role.names().0, self.name()))
    }

    fn name(self) -> &'static str {
        let index = match self {
            Self::Ink | Self::Rgb(_) => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Paper => 3,
            Self::Panel => 4,
            Self::Good => 5,
            Self::Bad => 6,
            Self::Series(index) => 7 + index % SERIES,
        };
        THEME[index].0
    }
}

/// What a colour is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Fill,
    Stroke,
}

impl Role {
    /// The prefix of its classes, and its CSS property.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Fill => ("f", "fill"),
            Self::Stroke => ("s", "stroke"),
        }
    }
}

/// The style sheet of all pictures, also of a page that contains some: variables for both themes, and the classes.
///
/// A page switches by hand with `data-theme="light"` or `"dark"` on its root; print is light.
pub fn css() -> String {
    let variables = |colour: fn(&(&str, &str, &str)) -> String| THEME.iter().map(colour).collect::<Vec<_>>().join(";");
    let light = variables(|(name, light, _)| format!("--{name}:{light}"));
    let dark = variables(|(name, _, dark)| format!("--{name}:{dark}"));
    let mut css = format!(
        ":root{{color-scheme:light dark;{light}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n\
         @media screen{{:root[data-theme=dark]{{{dark}}}}}\n"
    );
    for (name, light, _) in THEME {
        for role in [Role::Fill, Role::Stroke] {
            let (prefix, property) = role.names();
            css.push_str(&format!(".{prefix}-{name}{{{property}:{light};{property}:var(--{name})}}\n"));
        }
    }
    css
}

/// The style sheet of the light theme without variables, for the renderer of PNG files.
pub(crate) fn light_css() -> String {
    let rule =
        |(name, light, _): &(&str, &str, &str)| format!(".f-{name}{{fill:{light}}}\n.s-{name}{{stroke:{light}}}\n");
    THEME.iter().map(rule).collect()
}
