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
  /** The number that match the filters, on all pages. */
  total: number;
}

/** Values by which lists are sorted from the greatest down, unless a query says otherwise. */
const DESCENDING: readonly string[] = ['created_at', 'time', 'duration'];

/** The parameters for the order of a list that can be sorted by these values. */
export function orderParameters<Sort extends string>(sorts: readonly Sort[], description: string) {
  const descending = sorts.filter((one) => DESCENDING.includes(one)).join(', ');
  return {
    sort: Type.Optional(Type.Unsafe<Sort>(Type.Enum([...sorts], { default: 'created_at', description }))),
    order: Type.Optional(
      Type.Enum(['asc', 'desc'], { description: `By default desc for ${descending}, otherwise asc.` }),
    ),
  };
}

/** The order of a list by this value. @param order - What the query says. */
export function orderOf(sort: string, order: 'asc' | 'desc' | undefined): 'asc' | 'desc' {
  return order ?? (DESCENDING.includes(sort) ? 'desc' : 'asc');
}

/** A value that a list is sorted by. */
export type SortedValue = string | number | null;

/** Compares for an order, as `Array.sort` wants it: null comes last in both. Numbers in texts count as numbers. */
export function compareValues(one: SortedValue, other: SortedValue, order: 'asc' | 'desc'): number {
  if (one === null || other === null) return Number(one === null) - Number(other === null);
  const ascending =
    typeof one === 'number' && typeof other === 'number' ? one - other : COLLATOR.compare(String(one), String(other));
  return order === 'asc' ? ascending : -ascending;
}

/** The same on every host, whatever its locale. */
const COLLATOR = new Intl.Collator('en', { numeric: true });
