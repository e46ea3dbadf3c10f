//! Enums whose values have a label each: the word that metrics and `explain` print for a value.

/// `labels! { /// docs  pub enum DropReason { Truncated = "truncated", … } }` defines values without payload, which
/// count from 0 in the order in which they stand.
macro_rules! labels {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the counters.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The metric's label.
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

pub(crate) use labels;
