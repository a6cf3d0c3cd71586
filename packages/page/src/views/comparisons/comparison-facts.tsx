import type { Comparison } from '@lorasmith/contracts';
import { Link } from '../../location.js';

/** True while a comparison may change. */
export function isOpen({ ended_at: ended }: Comparison): boolean {
  return ended === null;
}

/** The names of both models, of which adapters and datasets lead to their views. */
export function ModelNames({ models }: Pick<Comparison, 'models'>) {
  const [a, b] = models as [Comparison['models'][number], Comparison['models'][number]];
  return (
    <>
      <ModelName model={a} /> and <ModelName model={b} />
    </>
  );
}

export function ModelName({ model: { name, adapter, answers } }: { model: Comparison['models'][number] }) {
  if (adapter !== null) {
    return (
      <Link to="/adapters/:id" params={{ id: adapter }}>
        {name}
      </Link>
    );
  }
  if (answers === null) return <>{name}</>;
  return (
    <Link to="/datasets/:id" params={{ id: answers }}>
      {name}
    </Link>
  );
}
