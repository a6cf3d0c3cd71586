import { type Static, type TSchema, Type } from 'typebox';
import { Nullable } from './nullable.js';
import { closed } from './schema-parts.js';

/** Query of a list: `limit` items after the item with the id `after`, newest first. */
export const PageQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
    after: Type.Optional(Type.String({ maxLength: 64, description: 'Id of the last item of the previous page.' })),
  },
  closed,
);
export type PageQuery = Static<typeof PageQuery>;

export const Page = <Item extends TSchema>(item: Item, id: string) =>
  Type.Object(
    {
      data: Type.Array(item),
      has_more: Type.Boolean(),
      next: Nullable(Type.String({ description: 'Send it as `after` for the next page.' })),
    },
    { $id: id, ...closed },
  );

export interface Paged<Item> {
  data: Item[];
  has_more: boolean;
  next: string | null;
}
