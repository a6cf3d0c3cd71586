import { type TSchema, Type } from 'typebox';

export const Nullable = <Schema extends TSchema>(
  schema: Schema,
  options: { default?: unknown; description?: string } = {},
) => Type.Union([schema, Type.Null()], options);
