import { Link } from './link.js';

export interface TagListProps {
  tags: readonly string[];
  /** The list that a tag leads to: `/jobs`. */
  to: string;
}

/** The tags of a thing. Each leads to all that have it. */
export function TagList({ tags, to }: TagListProps) {
  if (tags.length === 0) return null;
  return (
    <span class="tags">
      {tags.map((tag) => (
        <Link key={tag} to={to} query={{ tag }} class="tag">
          <span class="visually-hidden">tag </span>
          {tag}
        </Link>
      ))}
    </span>
  );
}
