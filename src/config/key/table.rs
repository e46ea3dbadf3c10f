//! The macro that makes of a block's rows its table and the types of its JSON.

/// Whether each field is that of a row.
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

/// The table of a block from its rows, and the types of its JSON.
///
/// `fields` names every field that has rows, `aside` every other: a new field of the type that is in neither, or that is
/// in `fields` and has no row, does not compile. A row is its line of help, how it stands in JSON, the field of the JSON
/// types, the key, the type in JSON, its place in the type, what it takes, the default, and when it changes.
///
/// How it stands in JSON, in what is asked for, in what is edited, and in what is shown:
/// `file` not at all; `optional` may be left out, the same, always; `plain` as `optional`, without an `Option`;
/// `nullable` may be left out or null, the same, null; `required` always, may be left out, always; `fixed` always, not
/// at all, always; `known` may be left out, the same, null where it means nothing; `nested` a table of its own.
macro_rules! keys {
    (
        $table:ident of $config:ident { $($field:ident),+ } $(aside { $($aside:ident),+ })?
        $(asked $asked_help:literal $asked:ident { $($extra:ident: $extra_type:ty),* })?
        $(edited $edited_help:literal $edited:ident)?
        $(shown $shown_help:literal $shown:ident)?
        $(whole $whole_help:literal $whole:ident)?;
        $(
            #[doc = $help:tt]
            $mode:ident $json:ident $name:tt [$($type:tt)*] in $top:ident [$($place:tt)*],
            $takes:expr, $default:expr, $change:ident;
        )+
    ) => {
        /// One row for each key, in the order in which a file has them.
        pub static $table: &crate::config::key::Keys<$config> = &[$(
            &crate::config::key::Field {
                name: $name,
                help: $help.trim_ascii(),
                change: crate::config::key::Change::$change,
                takes: $takes,
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

        keys!(@asked_of $config [$($asked_help $asked { $($extra: $extra_type),* })?]
            [$({ $help $mode $json $name [$($type)*] ($top [$($place)*]) ($takes) })+]);
        keys!(@edited_of $config [$($edited_help $edited)?]
            [$({ $help $mode $json $name [$($type)*] ($top [$($place)*]) ($takes) })+]);
        keys!(@shown_of $config [$($shown_help $shown)?]
            [$({ $help $mode $json $name [$($type)*] ($top [$($place)*]) ($takes) })+]);
        keys!(@whole_of $config [$($whole_help $whole)?]
            [$({ $help $json $name [$($type)*] ($top [$($place)*]) ($takes) })+]);
    };

    (@asked_of $config:ident [] $rows:tt) => {};
    (@asked_of $config:ident [$help:literal $asked:ident { $($extra:ident: $extra_type:ty),* }] [$($rows:tt)+]) => {
        keys!(@asked [$help] $asked $config { $(#[serde(default)] pub $extra: $extra_type,)* } {} {}
            { $($extra: Default::default(),)* } $($rows)+);
    };
    (@edited_of $config:ident [] $rows:tt) => {};
    (@edited_of $config:ident [$help:literal $edited:ident] [$($rows:tt)+]) => { keys!(@edited [$help] $edited $config {} {} $($rows)+); };
    (@shown_of $config:ident [] $rows:tt) => {};
    (@shown_of $config:ident [$help:literal $shown:ident] [$($rows:tt)+]) => { keys!(@shown [$help] $shown $config {} {} $($rows)+); };
    (@whole_of $config:ident [] $rows:tt) => {};
    (@whole_of $config:ident [$help:literal $whole:ident] [$($rows:tt)+]) => { keys!(@whole [$help] $whole $config $($rows)+); };

    (@get $config:ident $top:ident []) => { |config: &$config| Clone::clone(&config.$top) };
    (@get $config:ident $top:ident [. $($rest:tt)+]) => { |config: &$config| Clone::clone(&config.$top.$($rest)+) };
    (@get $config:ident $top:ident [$get:path, $set:path]) => { $get };
    (@set $config:ident $top:ident []) => { |config: &mut $config, value| config.$top = value };
    (@set $config:ident $top:ident [. $($rest:tt)+]) => { |config: &mut $config, value| config.$top.$($rest)+ = value };
    (@set $config:ident $top:ident [$get:path, $set:path]) => { $set };

    // What is asked for.
    (@asked [$about:literal] $name:ident $config:ident { $($fields:tt)* } { $($take:tt)* } { $($parameters:tt)* } { $($new:tt)* }) => {
        #[doc = $about]
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($fields)* }

        impl $name {
            /// With every default.
            pub fn new($($parameters)*) -> $name {
                $name { $($new)* }
            }

            /// Takes over what is asked for; keys that are left out are not touched, and their number in the table told.
            ///
            /// # Errors
            /// One sentence about what is asked for.
            pub fn take(&self, config: &mut $config) -> Result<Vec<&'static str>, String> {
                let mut left_out: Vec<&'static str> = Vec::new();
                keys!(@take self config left_out $($take)*);
                Ok(left_out)
            }
        }
    };
    (@asked $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* } { $($parameters:tt)* } { $($new:tt)* }
        { $help:tt optional $json:ident $name:tt [$($type:tt)*] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@asked $about $s $c { $($fields)*
            #[doc = $help]
            #[serde(default, rename = $name, skip_serializing_if = "Option::is_none")]
            pub $json: Option<$($type)*>,
        } { $($take)* { option $c $json $name $place $takes } } { $($parameters)* } { $($new)* $json: Default::default(), } $($rest)*);
    };
    (@asked $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* } { $($parameters:tt)* } { $($new:tt)* }
        { $help:tt known $json:ident $name:tt [$($type:tt)*] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@asked $about $s $c { $($fields)* } { $($take)* } { $($parameters)* } { $($new)* }
            { $help optional $json $name [$($type)*] $place $takes } $($rest)*);
    };
    (@asked $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* } { $($parameters:tt)* } { $($new:tt)* }
        { $help:tt nullable $json:ident $name:tt [$($type:tt)*] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@asked $about $s $c { $($fields)*
            #[doc = $help]
            #[serde(default, rename = $name, skip_serializing_if = "Option::is_none")]
            pub $json: Option<$($type)*>,
        } { $($take)* { plain $c $json $name $place $takes } } { $($parameters)* } { $($new)* $json: Default::default(), } $($rest)*);
    };
    (@asked $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* } { $($parameters:tt)* } { $($new:tt)* }
        { $help:tt plain $json:ident $name:tt [$($type:tt)*] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@asked $about $s $c { $($fields)*
            #[doc = $help] #[serde(default, rename = $name)] pub $json: $($type)*,
        } { $($take)* { plain $c $json $name $place $takes } } { $($parameters)* } { $($new)* $json: Default::default(), } $($rest)*);
    };
    (@asked $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* } { $($parameters:tt)* } { $($new:tt)* }
        { $help:tt nested $json:ident $name:tt [$type:ident $shown:ident] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@asked $about $s $c { $($fields)* #[doc = $help] #[serde(default, rename = $name)] pub $json: $type, }
            { $($take)* { plain $c $json $name $place $takes } } { $($parameters)* } { $($new)* $json: Default::default(), } $($rest)*);
    };
    (@asked $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* } { $($parameters:tt)* } { $($new:tt)* }
        { $help:tt required $json:ident $name:tt [$($type:tt)*] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@asked $about $s $c { $($fields)* #[doc = $help] #[serde(rename = $name)] pub $json: $($type)*, }
            { $($take)* { plain $c $json $name $place $takes } } { $($parameters)* } { $($new)* $json: Default::default(), } $($rest)*);
    };
    (@asked $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* } { $($parameters:tt)* } { $($new:tt)* }
        { $help:tt fixed $json:ident $name:tt [$($type:tt)*] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@asked $about $s $c { $($fields)*
            #[doc = $help] #[serde(rename = $name)] #[schema(value_type = String)] pub $json: $($type)*, }
            { $($take)* { plain $c $json $name $place $takes } } { $($parameters)* $json: $($type)*, } { $($new)* $json, } $($rest)*);
    };

    // What is edited.
    (@edited [$about:literal] $name:ident $config:ident { $($fields:tt)* } { $($take:tt)* }) => {
        #[doc = $about]
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($fields)* }

        impl $name {
            /// Takes over what is to change.
            ///
            /// # Errors
            /// One sentence about what is asked for.
            pub fn take(&self, config: &mut $config) -> Result<(), String> {
                let mut left_out: Vec<&'static str> = Vec::new();
                keys!(@take self config left_out $($take)*);
                Ok(())
            }
        }
    };
    (@edited $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* }
        { $help:tt fixed $($row:tt)* } $($rest:tt)*) => {
        keys!(@edited $about $s $c { $($fields)* } { $($take)* } $($rest)*);
    };
    (@edited $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* }
        { $help:tt nullable $json:ident $name:tt [$($type:tt)*] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@edited $about $s $c { $($fields)*
            #[doc = $help]
            #[serde(default, rename = $name, skip_serializing_if = "Option::is_none", deserialize_with = "crate::config::json::present")]
            #[schema(value_type = Option<$($type)*>)]
            pub $json: Option<Option<$($type)*>>,
        } { $($take)* { option $c $json $name $place $takes } } $($rest)*);
    };
    (@edited $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* }
        { $help:tt nested $json:ident $name:tt [$type:ident $shown:ident] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@edited $about $s $c { $($fields)* #[doc = $help] #[serde(default, rename = $name)] pub $json: $type, }
            { $($take)* { plain $c $json $name $place $takes } } $($rest)*);
    };
    (@edited $about:tt $s:ident $c:ident { $($fields:tt)* } { $($take:tt)* }
        { $help:tt $mode:ident $json:ident $name:tt [$($type:tt)*] $place:tt $takes:tt } $($rest:tt)*) => {
        keys!(@edited $about $s $c { $($fields)*
            #[doc = $help]
            #[serde(default, rename = $name, skip_serializing_if = "Option::is_none")]
            pub $json: Option<$($type)*>,
        } { $($take)* { option $c $json $name $place $takes } } $($rest)*);
    };

    (@take $self:ident $config:ident $left_out:ident $({ $mode:ident $c:ident $json:ident $name:tt ($top:ident [$($place:tt)*]) $takes:tt })*) => {
        $( keys!(@take_one $mode $self $config $left_out $json $name
            (keys!(@set $c $top [$($place)*])) $takes); )*
    };
    (@take_one option $self:ident $config:ident $left_out:ident $json:ident $name:tt $set:tt $takes:tt) => {
        match Clone::clone(&$self.$json) {
            Some(asked) => {
                let value = crate::config::key::Served::accept(&$takes, $name, &*$config, asked)?;
                $set($config, value);
            }
            None => $left_out.push($name),
        }
    };
    (@take_one plain $self:ident $config:ident $left_out:ident $json:ident $name:tt $set:tt $takes:tt) => {
        let value = crate::config::key::Served::accept(&$takes, $name, &*$config, Clone::clone(&$self.$json))?;
        $set($config, value);
    };

    // What is shown.
    (@shown [$about:literal] $name:ident $config:ident { $($fields:tt)* } { $({ $json:ident { $get:tt } $takes:tt })* }) => {
        #[doc = $about]
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub struct $name { $($fields)* }

        impl From<&$config> for $name {
            fn from(config: &$config) -> $name {
                $name { $( $json: crate::config::key::Served::show(&$takes, config, $get(config)), )* }
            }
        }
    };
    (@shown $about:tt $s:ident $c:ident { $($fields:tt)* } { $($show:tt)* }
        { $help:tt nested $json:ident $name:tt [$type:ident $shown:ident] ($top:ident [$($place:tt)*]) $takes:tt } $($rest:tt)*) => {
        keys!(@shown $about $s $c { $($fields)* #[doc = $help] #[serde(rename = $name)] pub $json: $shown, }
            { $($show)* { $json { (keys!(@get $c $top [$($place)*])) } $takes } } $($rest)*);
    };
    (@shown $about:tt $s:ident $c:ident { $($fields:tt)* } { $($show:tt)* }
        { $help:tt fixed $json:ident $name:tt [$($type:tt)*] ($top:ident [$($place:tt)*]) $takes:tt } $($rest:tt)*) => {
        keys!(@shown $about $s $c { $($fields)*
            #[doc = $help] #[serde(rename = $name)] #[schema(value_type = String)] pub $json: $($type)*, }
            { $($show)* { $json { (keys!(@get $c $top [$($place)*])) } $takes } } $($rest)*);
    };
    (@shown $about:tt $s:ident $c:ident { $($fields:tt)* } { $($show:tt)* }
        { $help:tt nullable $json:ident $name:tt [$($type:tt)*] ($top:ident [$($place:tt)*]) $takes:tt } $($rest:tt)*) => {
        keys!(@shown $about $s $c { $($fields)*
            #[doc = $help] #[serde(rename = $name)] pub $json: Option<$($type)*>, }
            { $($show)* { $json { (keys!(@get $c $top [$($place)*])) } $takes } } $($rest)*);
    };
    (@shown $about:tt $s:ident $c:ident { $($fields:tt)* } { $($show:tt)* }
        { $help:tt known $json:ident $name:tt [$($type:tt)*] ($top:ident [$($place:tt)*]) $takes:tt } $($rest:tt)*) => {
        keys!(@shown $about $s $c { $($fields)*
            #[doc = $help]
            #[serde(default, rename = $name, skip_serializing_if = "Option::is_none")]
            pub $json: Option<$($type)*>, }
            { $($show)* { $json { (keys!(@get $c $top [$($place)*])) } $takes } } $($rest)*);
    };
    (@shown $about:tt $s:ident $c:ident { $($fields:tt)* } { $($show:tt)* }
        { $help:tt $mode:ident $json:ident $name:tt [$($type:tt)*] ($top:ident [$($place:tt)*]) $takes:tt } $($rest:tt)*) => {
        keys!(@shown $about $s $c { $($fields)* #[doc = $help] #[serde(rename = $name)] pub $json: $($type)*, }
            { $($show)* { $json { (keys!(@get $c $top [$($place)*])) } $takes } } $($rest)*);
    };

    // What is asked for and shown alike, each key with its default.
    (@whole [$about:literal] $name:ident $config:ident $({ $help:tt $json:ident $key:tt [$($type:tt)*] ($top:ident [$($place:tt)*]) $takes:tt })+) => {
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
                $name { $( $json: crate::config::key::Served::show(&$takes, config, (keys!(@get $config $top [$($place)*]))(config)), )+ }
            }
        }

        impl $name {
            /// Takes over what is asked for.
            ///
            /// # Errors
            /// One sentence about what is asked for.
            pub fn take(&self, prefix: &str, config: &mut $config) -> Result<(), String> {
                $(
                    let key = format!("{prefix}{}", $key);
                    let value = crate::config::key::Served::accept(&$takes, &key, &*config, Clone::clone(&self.$json))?;
                    (keys!(@set $config $top [$($place)*]))(config, value);
                )+
                Ok(())
            }
        }
    };
}

pub(in crate::config) use keys;
