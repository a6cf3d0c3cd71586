import { ViewHead } from '../../components/view-head.js';

export function NewJobView() {
  return (
    <>
      <ViewHead title="New job" />
      <p>
        Jobs are started with <code>lora train</code> or <code>POST /jobs</code>.
      </p>
    </>
  );
}
