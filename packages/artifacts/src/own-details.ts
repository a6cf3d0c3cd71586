import { type Details, type DetailsChange, ownDetails, RECORD_VERSION, RecordVersion } from '@lorasmith/contracts';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';

/** The annotation of a dataset or an adapter. Its files keep the name with which it was published. */
const DetailsAnnotation = Type.Object({
  version: RecordVersion,
  /** Absent: as it was published. */
  name: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  tags: ownDetails.tags,
  note: ownDetails.note,
});
type DetailsAnnotation = Static<typeof DetailsAnnotation>;

const schema = Compile(DetailsAnnotation);

/** Name, tags and note of something that was published with this name. An annotation that cannot be read says nothing. */
export function detailsOf({ name }: Pick<Details, 'name'>, annotation: unknown): Details {
  if (!schema.Check(annotation)) return { name, tags: [], note: null };
  return { name: annotation.name === undefined ? name : annotation.name, tags: annotation.tags, note: annotation.note };
}

/** The change of an annotation that changes these details, and leaves the others. */
export function annotationChange(change: DetailsChange): (annotation: unknown) => DetailsAnnotation {
  return (annotation) => {
    const before = schema.Check(annotation) ? annotation : { tags: [], note: null };
    return { ...before, ...change, version: RECORD_VERSION };
  };
}
