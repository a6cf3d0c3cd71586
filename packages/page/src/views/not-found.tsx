import { Link } from '../components/link.js';
import { ViewHead } from '../components/view-head.js';

export function NotFound() {
  return (
    <>
      <ViewHead title="There is no such view" />
      <p>
        The address may be wrong or incomplete. <Link to="/jobs">See the jobs</Link>
      </p>
    </>
  );
}
