import type { SweepVariant } from '@lorasmith/contracts';
import { Link } from '../../components/link.js';

/** A text about a variant as a link to its job; without the link once the job was deleted. */
export function VariantLink({ one: { job, status }, text }: { one: SweepVariant; text: string }) {
  if (status === null) return <>{text}</>;
  return (
    <Link to="/jobs/:id" params={{ id: job }}>
      {text}
    </Link>
  );
}
