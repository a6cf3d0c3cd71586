import { bytesText } from '@lorasmith/client/core';
import type { Machine, MachineLoad, MachineRates } from '@lorasmith/contracts';
import { numberText } from '../charts/chart-values.js';
import { Facts, ScrollRegion } from '../components/data-table.js';
import { Loaded } from '../components/error-notice.js';
import { Moment } from '../components/moment.js';
import { Bar } from '../components/status.js';
import { ViewHead } from '../components/view.js';
import { useClient } from '../service/service.js';
import { usePolled } from '../service/use-polled.js';

const ENGINES: Record<Machine['engine']['kind'], string> = {
  cpu: 'processor',
  cuda: "GPU, Lorasmith's own kernels",
  tensorflow: "GPU, TensorFlow's build",
};

/** The machines that the workers train on. */
export function MachinesView() {
  const client = useClient();
  const machines = usePolled((signal) => client.machines({ signal }), [client], { everyMs: 5_000 });
  return (
    <>
      <ViewHead title="Machines" />
      <Loaded from={machines} what="the machines">
        {(rows) =>
          rows.length === 0 ? (
            <p>
              No worker has measured its machine yet. A worker does so at its first start; without one, jobs wait in the
              queue.
            </p>
          ) : (
            rows.map((machine) => <MachineCard key={machine.worker} machine={machine} />)
          )
        }
      </Loaded>
    </>
  );
}

function MachineCard({ machine }: { machine: Machine }) {
  const { engine, rates, running } = machine;
  const { card, self_test: test } = engine;
  return (
    <section class="card">
      <h2>{machine.worker}</h2>
      <p>
        <span class={running === null ? 'badge' : 'badge badge-running'}>
          {running === null ? 'not running' : 'running'}
        </span>{' '}
        {running !== null && `trains ${running.jobs} of up to ${running.jobs_at_once} jobs at once`}
      </p>
      {running !== null && running.load !== null && <Load load={running.load} />}
      <Facts
        entries={[
          ['Trains on', ENGINES[engine.kind]],
          ['Processor', machine.processor],
          ['Memory for training', bytesText(machine.memory_bytes)],
          ['Tokens of a shared pass', numberText(machine.pass_tokens)],
          ['GPU', card && `${card.name}, ${bytesText(card.memory_bytes)}`],
          ['Compute capability', card?.compute_capability],
          ['Driver', card?.driver],
          ['Measured', <Moment key="measured" at={machine.measured_at} />],
        ]}
      />
      {test !== null && <SelfTestResult test={test} />}
      <ScrollRegion label={`Measured speed of ${machine.worker}`}>
        <table class="plain-table">
          <caption>Measured speed</caption>
          <thead>
            <tr>
              <th scope="col">Precision</th>
              <th scope="col">Matrix products</th>
              <th scope="col">Reading weights</th>
              <th scope="col">Attention</th>
              <th scope="col">Passes over memory</th>
              <th scope="col">Overhead of a layer</th>
            </tr>
          </thead>
          <tbody>
            <Rates precision="float32" rates={rates.float32} />
            {rates.bfloat16 !== null && <Rates precision="bfloat16" rates={rates.bfloat16} />}
          </tbody>
        </table>
      </ScrollRegion>
    </section>
  );
}

/** The load of a machine: its GPU, its processor, and the memory of both. */
function Load({ load }: { load: MachineLoad }) {
  const { card, processor_busy: processor } = load;
  return (
    <section class="load" aria-label="Load">
      {card !== null && <Share label="GPU" share={card.busy} />}
      {card !== null && <Memory label="Memory of the GPU" memory={card} />}
      <Share label="Processor" share={processor} />
      <Memory label="Memory" memory={load} />
    </section>
  );
}

function Share({ label, share }: { label: string; share: number }) {
  return <Bar label={`${label} busy`} value={share} max={1} />;
}

type UsedMemory = Pick<MachineLoad, 'memory_used_bytes' | 'memory_total_bytes'>;

function Memory({
  label,
  memory: { memory_used_bytes: used, memory_total_bytes: total },
}: {
  label: string;
  memory: UsedMemory;
}) {
  return (
    <Bar label={`${label}: ${bytesText(used)} of ${bytesText(total)} in use`} value={used} max={Math.max(1, total)} />
  );
}

function Rates({ precision, rates }: { precision: string; rates: MachineRates }) {
  return (
    <tr>
      <th scope="row">{precision}</th>
      <td>{numberText(rates.matmul_gflops)} GFLOP/s</td>
      <td>{numberText(rates.weight_gbytes)} GB/s</td>
      <td>{numberText(rates.attention_gflops)} GFLOP/s</td>
      <td>{numberText(rates.pass_gbytes)} GB/s</td>
      <td>{numberText(rates.layer_overhead_ms)} ms</td>
    </tr>
  );
}

function SelfTestResult({ test }: { test: NonNullable<Machine['engine']['self_test']> }) {
  const { failed, kernels, avoided_kernels: avoided, distrust } = test;
  return (
    <div class={distrust === null ? 'notice' : 'notice notice-error'}>
      <p>
        Self-test: {test.cases} computations compared with the processor, {failed.length} differ.
        {distrust !== null && ` Nothing is trained on this GPU: ${distrust}`}
      </p>
      {failed.length > 0 && (
        <ul class="faults">
          {failed.map(({ case: what, fault }) => (
            <li key={what}>
              {what}: {fault}
            </li>
          ))}
        </ul>
      )}
      {distrust === null && kernels === 'raw' && (
        <p>
          Plain ops only: training is right with them and wrong with fused kernels. Jobs are slower and need more
          memory.
        </p>
      )}
      {kernels === 'fused' && avoided.length > 0 && <p>Replaced by plain ops: {avoided.join(', ')}</p>}
    </div>
  );
}
