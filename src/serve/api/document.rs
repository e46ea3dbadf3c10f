//! The OpenAPI document: from the handlers, the types of the JSON, and the rows of the key tables.

use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Content, OpenApi as Built, RefOr, Required, Schema};
use utoipa::{Modify, Number, OpenApi};

use super::{connections, events, read, write};
use crate::config::key::{Bounds, Keys};
use crate::config::keys::persistence::PERSISTENCE_KEYS;
use crate::config::keys::real_server::REAL_SERVER_KEYS;
use crate::config::keys::service::SERVICE_KEYS;
use crate::config::keys::timeouts::TIMEOUT_KEYS;
use crate::control::model::{ErrorBody, Event, RealserverStatus};

/// A test compares it with `config/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "lvs-tund director",
        description = "Reads and changes a running director, over HTTP/1.1 on its control socket. Every refusal has \
                       a body with a stable code and a sentence. Unknown fields are refused. The control socket of a real \
                       server answers /api/v1/status only, with a RealserverStatus."
    ),
    servers((
        url = "http://localhost",
        description = "The control socket of this host, or the address of the key `api`, which serves GET only."
    )),
    tags(
        (name = "read", description = "What the director does."),
        (name = "connections", description = "The connection table."),
        (name = "events", description = "Changes as they happen."),
        (name = "write", description = "Changes to the director.")
    ),
    paths(
        read::status,
        read::virtual_services,
        read::virtual_service,
        read::statistics,
        read::configuration,
        connections::connections,
        events::events,
        write::change,
        write::check_now,
        write::configure,
        write::reload
    ),
    components(schemas(Event, ErrorBody, RealserverStatus)),
    modifiers(&Rows, &Bodies, &Operations)
)]
struct Document;

/// The document as text, with a newline at its end.
pub fn document() -> String {
    let document = Document::openapi();
    document.to_pretty_json().map(|text| text + "\n").unwrap_or_else(|error| error.to_string())
}

/// Puts the bounds of the key tables' rows into the schemas.
struct Rows;

impl Modify for Rows {
    fn modify(&self, document: &mut Built) {
        let Some(components) = &mut document.components else { return };
        let mut bound = |names: &[&str], rows: &[(&str, Bounds)]| {
            for name in names {
                if let Some(schema) = components.schemas.get_mut(*name) {
                    bound_properties(schema, rows);
                }
            }
        };
        bound(&["VirtualServiceSpec", "VirtualServiceEdit", "VirtualServiceKeys"], &rows(SERVICE_KEYS));
        bound(&["RealServerSpec", "RealServerEdit", "RealServerKeys", "Operation"], &rows(REAL_SERVER_KEYS));
        bound(&["Persistence"], &rows(PERSISTENCE_KEYS));
        bound(&["TimeoutsSpec", "Timeouts"], &rows(TIMEOUT_KEYS));
    }
}

/// A request body is optional if all its fields are.
struct Bodies;

impl Modify for Bodies {
    fn modify(&self, document: &mut Built) {
        let Some(components) = &document.components else { return };
        let is_optional = |content: &RefOr<Content>| {
            let RefOr::T(Content { schema: Some(RefOr::Ref(reference)), .. }) = content else { return false };
            let schema =
                reference.ref_location.rsplit('/').next().and_then(|name| components.schemas.get(name));
            matches!(schema, Some(RefOr::T(Schema::Object(object))) if object.required.is_empty())
        };
        for post in document.paths.paths.values_mut().filter_map(|item| item.post.as_mut()) {
            if let Some(RefOr::T(body)) = &mut post.request_body
                && body.content.values().any(is_optional)
            {
                body.required = Some(Required::False);
            }
        }
    }
}

/// The variants of an enum refuse unknown fields, because of its attribute; the derived schema does not show it.
struct Operations;

impl Modify for Operations {
    fn modify(&self, document: &mut Built) {
        let components = document.components.as_mut();
        let operation = components.and_then(|components| components.schemas.get_mut("Operation"));
        let Some(RefOr::T(Schema::OneOf(operation))) = operation else { return };
        for variant in &mut operation.items {
            if let RefOr::T(Schema::Object(object)) = variant {
                object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
    }
}

fn rows<C>(keys: &Keys<C>) -> Vec<(&'static str, Bounds)> {
    keys.iter().map(|key| (key.name(), key.bounds())).collect()
}

fn bound_properties(schema: &mut RefOr<Schema>, rows: &[(&str, Bounds)]) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            for (name, bounds) in rows {
                if let Some(property) = object.properties.get_mut(*name) {
                    bound(property, bounds);
                }
            }
        }
        RefOr::T(Schema::OneOf(one)) => one.items.iter_mut().for_each(|item| bound_properties(item, rows)),
        _ => {}
    }
}

fn bound(schema: &mut RefOr<Schema>, bounds: &Bounds) {
    match schema {
        RefOr::T(Schema::Object(object)) => bound_object(object, bounds),
        RefOr::T(Schema::Array(array)) => {
            array.min_items = bounds.items_min;
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                bound(items, bounds);
            }
        }
        RefOr::T(Schema::OneOf(one)) => {
            let is_null = |item: &RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(object)) if object.schema_type == Type::Null.into());
            one.items.iter_mut().filter(|item| !is_null(item)).for_each(|item| bound(item, bounds));
        }
        // Seconds, which have other bounds elsewhere.
        RefOr::Ref(reference) if bounds.range.is_some() => {
            let mut object = Object::with_type(Type::Number);
            object.description = Some(reference.description.clone());
            object.default.clone_from(&reference.default);
            bound_object(&mut object, bounds);
            *schema = object.into();
        }
        _ => {}
    }
}

fn bound_object(object: &mut Object, bounds: &Bounds) {
    if let Some(range) = &bounds.range {
        let number = |bound: &i64| isize::try_from(*bound).ok().map(Number::from);
        object.minimum = number(range.start());
        object.maximum = number(range.end());
    }
    if let Some(values) = &bounds.values {
        let is_nullable =
            matches!(&object.schema_type, SchemaType::Array(types) if types.contains(&Type::Null));
        let null = is_nullable.then_some(Value::Null);
        object.enum_values = Some(values.iter().cloned().chain(null).collect());
    }
    if let Some(length) = &bounds.length {
        object.min_length = Some(*length.start());
        object.max_length = Some(*length.end());
    }
    if let Some(format) = bounds.format {
        object.format = Some(SchemaFormat::Custom(format.to_owned()));
    }
}
