//! The macro that turns the rows of a block into its table and its JSON types.

/// Whether each of these fields has a row.
pub const fn is_covered(fields: &[&str], rows: &[&str]) -> bool {
    let mut field = 0;
    while field < fields.len() {
        let (mut row, mut is_found) = (0, false);
        while row < rows.len() {
            is_found |= is_equal(fields[field].as_bytes(), rows[row].as_bytes());
            row += 1;
        }
        if !is_found {
            return false;
        }
        field += 1;
    }
    true
}

const fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// Defines the table of a block and its JSON types from one row per key.
///
/// `fields` lists the fields of the type that have rows, `aside` lists the others. A new field that is in neither list,
/// or in `fields` without a row, does not compile. A row consists of its help line, its JSON mode, the field of the JSON
/// types, the key, the JSON type, its place in the configuration type, the kind of value, the default, and when a new
/// value applies.
///
/// The JSON mode determines how the key appears in a specification, in an edit and in a view:
///
/// | mode | specification | edit | view |
/// |---|---|---|---|
/// | `file` | – | – | – |
/// | `optional` | optional, an `Option` | optional | always |
/// | `plain` | optional, no `Option` | optional | always |
/// | `nullable` | optional or null | optional or null | a value or null |
/// | `required` | required | optional | always |
/// | `fixed` | required | – | always |
/// | `known` | optional, an `Option` | optional | absent where it has no meaning |
/// | `nested` | an object | an object | an object |
macro_rules! keys {
    (
        $table:ident of $config:ident { $($field:ident),+ } $(aside { $($aside:ident),+ })?
        $(spec $spec_help:literal $spec:ident { $($extra:ident: $extra_type:ty),* })?
        $(edit $edit_help:literal $edit:ident)?
        $(view $view_help:literal $view:ident)?
        $(whole $whole_help:literal $whole:ident)?;
        $(
            #[doc = $help:tt]
            $mode:ident $json:ident $name:tt [$($type:tt)*] in $top:ident [$($place:tt)*],
            $kind:expr, $default:expr, $applies:ident;
        )+
    ) => {
        /// One row for each key, in the order of the keys in a file.
        pub static $table: &crate::config::key::Keys<$config> = &[$(
            &crate::config::key::Field {
                name: $name,
                help: $help.trim_ascii(),
                applies: crate::config::key::Applies::$applies,
                kind: $kind,
                get: keys!(@get $config $top [$($place)*]),
                set: keys!(@set $config $top [$($place)*]),
                default: $default,
            },
        )+];

        const _: () = assert!(
            crate::config::key::is_covered(&[$(stringify!($field)),+], &[$(stringify!($top)),+]),
            "a field has no row"
        );

        const _: fn(&$config) = |$config { $($field: _,)+ $($($aside: _,)+)? }| {};

        keys!(@spec_of $config [$($spec_help $spec { $($extra: $extra_type),* })?]
            [$({ $help $mode $json $name [$($type)*] ($top [$($place)*]) ($kind) })+]);
        keys!(@edit_of $config [$($edit_help $edit)?]
            [$({ $help $mode $json $name [$($type)*] ($top [$($place)*]) ($kind) })+]);
        keys!(@view_of $config [$($view_help $view)?]
            [$({ $help $mode $json $name [$($type)*] ($top [$($place)*]) ($kind) })+]);
        keys!(@whole_of $config [$($whole_help $whole)?]
            [$({ $help $json $name [$($type)*] ($top [$($place)*]) ($kind) })+]);
    };

    (@spec_of $config:ident [] $rows:tt) => {};
    (@spec_of $config:ident [$help:literal $spec:ident { $($extra:ident: $extra_type:ty),* }]
        [$($rows:tt)+]) => {
        keys!(@spec [$help] $spec $config { $(
            #[doc = "The parts that have blocks of their own in a file."]
            #[serde(default)]
            pub $extra: $extra_type,
        )* } {} {}
            { $($extra: Default::default(),)* } $($rows)+);
    };
    (@edit_of $config:ident [] $rows:tt) => {};
    (@edit_of $config:ident [$help:literal $edit:ident] [$($rows:tt)+]) => {
        keys!(@edit [$help] $edit $config {} {} $($rows)+);
    };
    (@view_of $config:ident [] $rows:tt) => {};
    (@view_of $config:ident [$help:literal $view:ident] [$($rows:tt)+]) => {
        keys!(@view [$help] $view $config {} {} $($rows)+);
    };
    (@whole_of $config:ident [] $rows:tt) => {};
    (@whole_of $config:ident [$help:literal $whole:ident] [$($rows:tt)+]) => {
        keys!(@whole [$help] $whole $config $($rows)+);
    };

    (@get $config:ident $top:ident []) => { |config: &$config| Clone::clone(&config.$top) };
    (@get $config:ident $top:ident [. $($rest:tt)+]) => {
        |config: &$config| Clone::clone(&config.$top.$($rest)+)
    };
    (@get $config:ident $top:ident [$get:path, $set:path]) => { $get };
    (@set $config:ident $top:ident []) => { |config: &mut $config, value| config.$top = value };
    (@set $config:ident $top:ident [. $($rest:tt)+]) => {
        |config: &mut $config, value| config.$top.$($rest)+ = value
    };
    (@set $config:ident $top:ident [$get:path, $set:path]) => { $set };

    // A specification: `f` its fields, `a` how each is applied, `p` and `n` the parameters and fields of `new`.
    (@spec [$about:literal] $name:ident $config:ident
        { $($f:tt)* } { $($a:tt)* } { $($p:tt)* } { $($n:tt)* }) => {
        #[doc = $about]
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($f)* }

        impl $name {
            /// With the default of every optional key.
            pub fn new($($p)*) -> $name {
                $name { $($n)* }
            }

            /// Applies the keys that are present to `config` and returns the names of the absent ones.
            ///
            /// # Errors
            /// One sentence about the first value that is not accepted.
            pub fn apply(&self, config: &mut $config) -> Result<Vec<&'static str>, String> {
                let mut absent: Vec<&'static str> = Vec::new();
                keys!(@apply self config absent $($a)*);
                Ok(absent)
            }
        }
    };
    (@spec $about:tt $s:ident $c:ident $f:tt $a:tt $p:tt $n:tt
        { $help:tt optional $json:ident $name:tt [$($type:tt)*] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@spec_add $about $s $c $f $a $p $n
            [default, rename = $name, skip_serializing_if = "Option::is_none"] [Option<$($type)*>]
            { option $help $json $name $place $kind } $($rest)*);
    };
    (@spec $about:tt $s:ident $c:ident $f:tt $a:tt $p:tt $n:tt
        { $help:tt known $($row:tt)* } $($rest:tt)*) => {
        keys!(@spec $about $s $c $f $a $p $n { $help optional $($row)* } $($rest)*);
    };
    (@spec $about:tt $s:ident $c:ident $f:tt $a:tt $p:tt $n:tt
        { $help:tt nullable $json:ident $name:tt [$($type:tt)*] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@spec_add $about $s $c $f $a $p $n
            [default, rename = $name, skip_serializing_if = "Option::is_none"] [Option<$($type)*>]
            { plain $help $json $name $place $kind } $($rest)*);
    };
    (@spec $about:tt $s:ident $c:ident $f:tt $a:tt $p:tt $n:tt
        { $help:tt plain $json:ident $name:tt $type:tt $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@spec_add $about $s $c $f $a $p $n [default, rename = $name] $type
            { plain $help $json $name $place $kind } $($rest)*);
    };
    (@spec $about:tt $s:ident $c:ident $f:tt $a:tt $p:tt $n:tt
        { $help:tt nested $json:ident $name:tt [$type:ident $view:ident] $($row:tt)* } $($rest:tt)*) => {
        keys!(@spec $about $s $c $f $a $p $n { $help plain $json $name [$type] $($row)* } $($rest)*);
    };
    (@spec $about:tt $s:ident $c:ident $f:tt $a:tt $p:tt $n:tt
        { $help:tt required $json:ident $name:tt $type:tt $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@spec_add $about $s $c $f $a $p $n [rename = $name] $type
            { plain $help $json $name $place $kind } $($rest)*);
    };
    (@spec $about:tt $s:ident $c:ident { $($f:tt)* } { $($a:tt)* } { $($p:tt)* } { $($n:tt)* }
        { $help:tt fixed $json:ident $name:tt [$($type:tt)*] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@spec $about $s $c { $($f)*
            #[doc = $help] #[serde(rename = $name)] #[schema(value_type = String)] pub $json: $($type)*,
        } { $($a)* { plain $c $json $name $place $kind } } { $($p)* $json: $($type)*, }
            { $($n)* $json, } $($rest)*);
    };
    (@spec_add $about:tt $s:ident $c:ident { $($f:tt)* } { $($a:tt)* } $p:tt { $($n:tt)* }
        [$($serde:tt)*] [$($type:tt)*]
        { $how:ident $help:tt $json:ident $name:tt $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@spec $about $s $c { $($f)* #[doc = $help] #[serde($($serde)*)] pub $json: $($type)*, }
            { $($a)* { $how $c $json $name $place $kind } } $p
            { $($n)* $json: Default::default(), } $($rest)*);
    };

    // An edit.
    (@edit [$about:literal] $name:ident $config:ident { $($f:tt)* } { $($a:tt)* }) => {
        #[doc = $about]
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($f)* }

        impl $name {
            /// Applies the keys that are present to `config`.
            ///
            /// # Errors
            /// One sentence about the first value that is not accepted.
            pub fn apply(&self, config: &mut $config) -> Result<(), String> {
                let mut absent: Vec<&'static str> = Vec::new();
                keys!(@apply self config absent $($a)*);
                Ok(())
            }
        }
    };
    (@edit $about:tt $s:ident $c:ident $f:tt $a:tt { $help:tt fixed $($row:tt)* } $($rest:tt)*) => {
        keys!(@edit $about $s $c $f $a $($rest)*);
    };
    (@edit $about:tt $s:ident $c:ident { $($f:tt)* } { $($a:tt)* }
        { $help:tt nullable $json:ident $name:tt [$($type:tt)*] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@edit $about $s $c { $($f)*
            #[doc = $help]
            #[serde(default, rename = $name, skip_serializing_if = "Option::is_none")]
            #[serde(deserialize_with = "crate::config::json::present")]
            #[schema(value_type = Option<$($type)*>)]
            pub $json: Option<Option<$($type)*>>,
        } { $($a)* { option $c $json $name $place $kind } } $($rest)*);
    };
    (@edit $about:tt $s:ident $c:ident { $($f:tt)* } { $($a:tt)* }
        { $help:tt nested $json:ident $name:tt [$type:ident $view:ident] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@edit $about $s $c { $($f)* #[doc = $help] #[serde(default, rename = $name)] pub $json: $type, }
            { $($a)* { plain $c $json $name $place $kind } } $($rest)*);
    };
    (@edit $about:tt $s:ident $c:ident { $($f:tt)* } { $($a:tt)* }
        { $help:tt $mode:ident $json:ident $name:tt [$($type:tt)*] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@edit $about $s $c { $($f)*
            #[doc = $help]
            #[serde(default, rename = $name, skip_serializing_if = "Option::is_none")]
            pub $json: Option<$($type)*>,
        } { $($a)* { option $c $json $name $place $kind } } $($rest)*);
    };

    (@apply $self:ident $config:ident $absent:ident
        $({ $how:ident $c:ident $json:ident $name:tt ($top:ident [$($place:tt)*]) $kind:tt })*) => {
        $( keys!(@apply_one $how $self $config $absent $json $name
            (keys!(@set $c $top [$($place)*])) $kind); )*
    };
    (@apply_one option $self:ident $config:ident $absent:ident $json:ident $name:tt $set:tt $kind:tt) => {
        match Clone::clone(&$self.$json) {
            Some(input) => {
                let value = crate::config::key::JsonKind::accept(&$kind, $name, &*$config, input)?;
                $set($config, value);
            }
            None => $absent.push($name),
        }
    };
    (@apply_one plain $self:ident $config:ident $absent:ident $json:ident $name:tt $set:tt $kind:tt) => {
        let input = Clone::clone(&$self.$json);
        let value = crate::config::key::JsonKind::accept(&$kind, $name, &*$config, input)?;
        $set($config, value);
    };

    // A view.
    (@view [$about:literal] $name:ident $config:ident { $($f:tt)* } { $({ $json:ident $get:tt $kind:tt })* }) => {
        #[doc = $about]
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub struct $name { $($f)* }

        impl From<&$config> for $name {
            fn from(config: &$config) -> $name {
                $name { $( $json: crate::config::key::JsonKind::show(&$kind, config, $get(config)), )* }
            }
        }
    };
    (@view $about:tt $s:ident $c:ident { $($f:tt)* } $shown:tt
        { $help:tt nested $json:ident $name:tt [$type:ident $view:ident] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@view_field $about $s $c { $($f)* #[doc = $help] #[serde(rename = $name)] pub $json: $view, }
            $shown $json $place $kind $($rest)*);
    };
    (@view $about:tt $s:ident $c:ident { $($f:tt)* } $shown:tt
        { $help:tt fixed $json:ident $name:tt [$($type:tt)*] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@view_field $about $s $c { $($f)*
            #[doc = $help] #[serde(rename = $name)] #[schema(value_type = String)] pub $json: $($type)*,
        } $shown $json $place $kind $($rest)*);
    };
    (@view $about:tt $s:ident $c:ident { $($f:tt)* } $shown:tt
        { $help:tt nullable $json:ident $name:tt [$($type:tt)*] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@view_field $about $s $c { $($f)*
            #[doc = $help] #[serde(rename = $name)] pub $json: Option<$($type)*>,
        } $shown $json $place $kind $($rest)*);
    };
    (@view $about:tt $s:ident $c:ident { $($f:tt)* } $shown:tt
        { $help:tt known $json:ident $name:tt [$($type:tt)*] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@view_field $about $s $c { $($f)*
            #[doc = $help]
            #[serde(default, rename = $name, skip_serializing_if = "Option::is_none")]
            pub $json: Option<$($type)*>,
        } $shown $json $place $kind $($rest)*);
    };
    (@view $about:tt $s:ident $c:ident { $($f:tt)* } $shown:tt
        { $help:tt $mode:ident $json:ident $name:tt [$($type:tt)*] $place:tt $kind:tt } $($rest:tt)*) => {
        keys!(@view_field $about $s $c { $($f)*
            #[doc = $help] #[serde(rename = $name)] pub $json: $($type)*,
        } $shown $json $place $kind $($rest)*);
    };
    (@view_field $about:tt $s:ident $c:ident $f:tt { $($shown:tt)* }
        $json:ident ($top:ident [$($place:tt)*]) $kind:tt $($rest:tt)*) => {
        keys!(@view $about $s $c $f
            { $($shown)* { $json (keys!(@get $c $top [$($place)*])) $kind } } $($rest)*);
    };

    // Specification and view in one type; each absent key has its default.
    (@whole [$about:literal] $name:ident $config:ident
        $({ $help:tt $json:ident $key:tt [$($type:tt)*] ($top:ident [$($place:tt)*]) $kind:tt })+) => {
        #[doc = $about]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $( #[doc = $help] #[serde(rename = $key)] pub $json: $($type)*, )+ }

        impl Default for $name {
            fn default() -> $name {
                (&$config::default()).into()
            }
        }

        impl From<&$config> for $name {
            fn from(config: &$config) -> $name {
                $name { $(
                    $json: crate::config::key::JsonKind::show(
                        &$kind, config, (keys!(@get $config $top [$($place)*]))(config)
                    ),
                )+ }
            }
        }

        impl $name {
            /// Applies every key to `config`; messages name a key with `prefix` before it.
            ///
            /// # Errors
            /// One sentence about the first value that is not accepted.
            pub fn apply(&self, prefix: &str, config: &mut $config) -> Result<(), String> {
                $(
                    let (key, input) = (format!("{prefix}{}", $key), Clone::clone(&self.$json));
                    let value = crate::config::key::JsonKind::accept(&$kind, &key, &*config, input)?;
                    (keys!(@set $config $top [$($place)*]))(config, value);
                )+
                Ok(())
            }
        }
    };
}

pub(in crate::config) use keys;
