import { type Static, type TSchema, Type } from 'typebox';
import { closed, Nullable } from './schema-parts.js';

/** Query of a list: `limit` items after the item with the id `after`, newest first. */
export const PageQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
    after: Type.Optional(Type.String({ maxLength: 64, description: 'Id of the last item of the previous page.' })),
  },
  closed,
);
export type PageQuery = Static<typeof PageQuery>;

const pageFields = <Item extends TSchema>(item: Item) => ({
  data: Type.Array(item),
  has_more: Type.Boolean(),
  next: Nullable(Type.String({ description: 'Send it as `after` for the next page.' })),
});

export const Page = <Item extends TSchema>(item: Item, id: string) =>
  Type.Object(pageFields(item), { $id: id, ...closed });

/** A page that says how many things the whole list has. */
export const CountedPage = <Item extends TSchema>(item: Item, id: string) =>
  Type.Object(
    {
      ...pageFields(item),
      total: Type.Integer({ minimum: 0, description: 'How many match the filters, on all pages.' }),
    },
    { $id: id, ...closed },
  );

export interface Paged<Item> {
  data: Item[];
  has_more: boolean;
  next: string | null;
}

export interface Counted<Item> extends Paged<Item> {
  /** How many match the filters, on all pages. */
  total: number;
}
