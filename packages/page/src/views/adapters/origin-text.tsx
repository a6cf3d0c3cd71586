import type { Adapter } from '@lorasmith/contracts';
import { Link } from '../../components/link.js';

/** How an adapter was made, with a link to its job. */
export function OriginText({ origin }: { origin: Adapter['origin'] }) {
  if (origin.kind === 'imported') return <>imported</>;
  const job = (
    <Link to="/jobs/:id" params={{ id: origin.job }}>
      {origin.job}
    </Link>
  );
  return origin.kind === 'trained' ? (
    <>trained by {job}</>
  ) : (
    <>
      published from step {origin.step} of {job}
    </>
  );
}
