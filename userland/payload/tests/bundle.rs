// SPDX-License-Identifier: GPL-2.0

//! A payload and its parts for modules.

#[allow(dead_code)]
mod common;
#[path = "../malform/mod.rs"]
#[allow(dead_code)]
mod malform;

use common::{image, module_name, Spec, SAMPLE};
use kcare_payload::bundle::{Bundle, Refusal};
use kcare_payload::elf::SectionHeader;
use kcare_payload::error::{Error, Place, Reason, Table};
use kcare_payload::layout::{
    Extern, Fix, Manifest, Object, State, FLAG_ALL_AT_ONCE, OBJECT_OUTER, REGION_PERCPU,
    SEC_EXTERNS, SEC_FIXES, SEC_MANIFEST, SEC_OBJECTS, SEC_PART, SEC_STATES,
};
use malform::image::Image;

const WITH_PARTS: Spec = Spec {
    modules: 0,
    parts: 3,
    ..SAMPLE
};

/// The part for the module with an index, as in the payload with parts.
fn part(index: u32) -> Image {
    image(&Spec {
        modules: index,
        fixes: 0,
        ..SAMPLE
    })
}

/// Index of a part's section.
fn section(image: &Image, index: u32) -> u32 {
    let name = format!("{SEC_PART}{}", module_name(index));
    image.named(&name).expect("the part is there")
}

/// Puts a changed part for module 2 in.
fn with_part(change: impl FnOnce(&mut Image)) -> Vec<u8> {
    let mut outer = image(&WITH_PARTS);
    let mut inner = part(2);
    change(&mut inner);
    let name = format!("{SEC_PART}{}", module_name(2));
    outer.section(&name).expect("the part is there").data = inner.write();
    outer.write()
}

fn refusal(body: &[u8]) -> Option<(Error, Option<String>)> {
    let refusal = Bundle::parse(body).err();
    refusal.map(|Refusal { error, part }| (error, part.map(str::to_owned)))
}

/// The refusal of the payload around the parts, for the section of module 2's part.
fn around(reason: Reason) -> Option<(Error, Option<String>)> {
    let outer = image(&WITH_PARTS);
    Some((Error::section(reason, section(&outer, 2)), None))
}

/// A refusal within module 2's part.
fn within(error: Error) -> Option<(Error, Option<String>)> {
    Some((error, Some(module_name(2))))
}

#[test]
fn parts_are_found() {
    let body = image(&WITH_PARTS).write();
    let bundle = Bundle::parse(&body).expect("it is good");
    let names: Vec<_> = bundle.parts().map(|p| p.name.to_owned()).collect();
    assert_eq!(names, [1, 2, 3].map(module_name));
    assert_eq!(bundle.outer().states().count(), 2);
    for part in bundle.parts() {
        let target = part.payload.object(part.payload.target());
        let target = target.expect("it has a target");
        assert_eq!(part.payload.string(target.name), part.name);
        assert_eq!(part.payload.nr_funcs(), WITH_PARTS.funcs);
        assert_eq!(part.payload.callbacks().count(), 2);
        let again = bundle.part(part.name).expect("it is found by name");
        assert_eq!(again.payload.nr_symbols(), part.payload.nr_symbols());
    }
    let bodies = bundle.parts().map(|part| (part.name, part.body));
    let places = bundle.places().map(|(name, at)| (name, &body[at]));
    assert!(bodies.eq(places));
    assert!(bundle.part("sample_mod").is_none());
    assert_eq!(refusal(&with_part(|_| {})), None);
}

#[test]
fn a_part_is_no_whole_payload() {
    let target = Place::Entry {
        table: Table::Manifest,
        index: 76,
    };
    let error = Error::new(Reason::ManifestTarget, target);
    assert_eq!(refusal(&part(1).write()), Some((error, None)));
}

#[test]
fn modules_only_in_parts() {
    let mut outer = image(&WITH_PARTS);
    let mut object: Object = outer
        .section(SEC_OBJECTS)
        .and_then(|s| s.get(0))
        .expect("vmlinux");
    object.name = outer.add_string("ext4").expect("room");
    object.note = 4;
    let objects = outer.section(SEC_OBJECTS).expect("objects");
    objects.push(&object);
    outer.manifest(|m| m.nr_objects += 1);
    let error = Error::entry(Reason::ObjectUnused, Table::Objects, 1);
    assert_eq!(refusal(&outer.write()), Some((error, None)));
}

#[test]
fn order_of_parts() {
    for twice in [false, true] {
        let mut outer = image(&WITH_PARTS);
        let (second, third) = (section(&outer, 2), section(&outer, 3));
        let name = outer[second as usize].header.name;
        outer[third as usize].header.name = name;
        if !twice {
            // All after the first one are in order, and the names are wrong.
            outer[third as usize].header.name = outer.add_section_name(&format!("{SEC_PART}zzz"));
        }
        let (error, part) = refusal(&outer.write()).expect("it is bad");
        let reason = if twice {
            Reason::PartOrder
        } else {
            Reason::PartName
        };
        assert_eq!((error.reason, part), (reason, None));
    }
}

#[test]
fn number_of_parts() {
    for change in [-1, 1] {
        let mut outer = image(&WITH_PARTS);
        outer.manifest(|m| m.nr_parts = m.nr_parts.wrapping_add_signed(change));
        let error = Error::entry(Reason::TableCount, Table::Manifest, 72);
        assert_eq!(refusal(&outer.write()), Some((error, None)));
    }
}

#[test]
fn a_part_belongs_to_its_payload() {
    let changes: [fn(&mut Manifest); 6] = [
        |m| m.level += 1,
        |m| m.build_time += 1,
        |m| m.release = m.description,
        |m| m.description = m.release,
        |m| m.not_after += 1,
        |m| m.flags ^= FLAG_ALL_AT_ONCE,
    ];
    for change in changes {
        let body = with_part(|image| {
            image.manifest(change);
        });
        assert_eq!(refusal(&body), around(Reason::PartForeign));
    }
    let body = with_part(|image| {
        let objects = image.section(SEC_OBJECTS).expect("objects");
        objects.change(0, |o: &mut Object| o.build_id[3] ^= 1);
    });
    assert_eq!(refusal(&body), around(Reason::PartForeign));
    let body = with_part(|image| {
        image.manifest(|m| m.target = 1);
        let funcs = image
            .section(kcare_payload::layout::SEC_FUNCS)
            .expect("functions");
        for i in 0..SAMPLE.funcs {
            funcs.change(i, |f: &mut kcare_payload::layout::Func| f.object = 1);
        }
    });
    assert_eq!(refusal(&body), around(Reason::PartName));
}

#[test]
fn a_part_has_nothing_of_its_own() {
    let body = with_part(|image| {
        let title = image.add_string("a fix").expect("room");
        let fix = Fix {
            id: 0,
            title,
            reserved: 0,
        };
        image.section(SEC_FIXES).expect("fixes").push(&fix);
        image.manifest(|m| m.nr_fixes = 1);
    });
    assert_eq!(refusal(&body), around(Reason::PartNested));
    let body = with_part(|image| {
        image.section(SEC_STATES).expect("states").push(&State {
            id: 1,
            ..State::default()
        });
        image.manifest(|m| m.nr_states = 1);
    });
    assert_eq!(refusal(&body), around(Reason::PartNested));
    let body = with_part(|image| {
        let part = part(1).write();
        let header = SectionHeader {
            addralign: 8,
            ..malform::image::table()
        };
        image.push(&format!("{SEC_PART}ext4"), header, part);
        image.manifest(|m| m.nr_parts = 1);
    });
    assert_eq!(refusal(&body), around(Reason::PartNested));
}

#[test]
fn whatever_is_wrong_within_a_part_is_found() {
    let body = with_part(|image| {
        image
            .section(SEC_MANIFEST)
            .expect("a manifest")
            .put(3, b"x");
    });
    let error = Error::entry(Reason::ManifestMagic, Table::Manifest, 0);
    assert_eq!(refusal(&body), within(error));

    let mut outer = image(&WITH_PARTS);
    let name = format!("{SEC_PART}{}", module_name(2));
    outer.section(&name).expect("a part").data.clear();
    assert_eq!(refusal(&outer.write()), within(Reason::TooSmall.into()));
}

#[test]
fn externs_of_the_outer_payload_and_per_cpu() {
    let edit = |object, region| {
        with_part(|image| {
            let externs = image.section(SEC_EXTERNS).expect("externs");
            externs.change(0, |e: &mut Extern| (e.object, e.region) = (object, region));
        })
    };
    assert_eq!(refusal(&edit(OBJECT_OUTER, 3)), None);
    assert_eq!(refusal(&edit(1, REGION_PERCPU)), None);
    let error = Error::entry(Reason::ExternRegion, Table::Externs, 0);
    for (object, region) in [(OBJECT_OUTER, REGION_PERCPU), (0, REGION_PERCPU), (1, 4)] {
        assert_eq!(refusal(&edit(object, region)), within(error));
    }
    // The outer payload has nothing around it.
    let mut outer = image(&WITH_PARTS);
    let externs = outer.section(SEC_EXTERNS).expect("externs");
    externs.change(0, |e: &mut Extern| e.object = OBJECT_OUTER);
    let error = Error::entry(Reason::ExternObject, Table::Externs, 0);
    assert_eq!(refusal(&outer.write()), Some((error, None)));
}
