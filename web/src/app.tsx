/* The view that the address names, within what stands around every view. */
import { useEffect } from 'preact/hooks';
import { pathname, route, visits } from './router.ts';
import { Notice, OrderDialog } from './ui/orders.tsx';
import { Empty, useTitle } from './ui/parts.tsx';
import { Banner, Header, HelpDialog } from './ui/shell.tsx';
import { AuditView } from './views/audit.tsx';
import { ClusterView } from './views/cluster.tsx';
import { GpuView } from './views/gpu.tsx';
import { MachinesView, MachineView } from './views/machines.tsx';
import { NodeView } from './views/node.tsx';
import { NodesView } from './views/nodes.tsx';
import { SubmitView } from './views/submit.tsx';
import { TasksView } from './views/tasks.tsx';
import { TaskView } from './views/task.tsx';

function Missing() {
  useTitle('Not found');
  return (
    <>
      <h1>Not found</h1>
      <Empty>
        There is no such page. <a href="/">The cluster</a>
      </Empty>
    </>
  );
}

function View() {
  const { name, at } = route.value;
  switch (name) {
    case 'cluster':
      return <ClusterView />;
    case 'nodes':
      return <NodesView />;
    case 'node':
      return <NodeView key={at[0]} name={at[0]!} />;
    case 'gpu':
      return <GpuView node={at[0]!} index={Number(at[1])} />;
    case 'tasks':
      return <TasksView />;
    case 'task':
      return <TaskView key={at[0]} id={Number(at[0])} />;
    case 'submit':
      return <SubmitView />;
    case 'machines':
      return <MachinesView />;
    case 'machine':
      return <MachineView key={at[0]} id={Number(at[0])} />;
    case 'audit':
      return <AuditView />;
    case 'missing':
      return <Missing />;
  }
}

let isFirst = true;
let seenVisits = 0;

export function App() {
  const path = pathname.value;
  useEffect(() => {
    // A reader of the screen is told of the new view; the first one is where it begins anyway.
    if (!isFirst) document.getElementById('content')?.focus({ preventScroll: true });
    if (visits !== seenVisits) scrollTo(0, 0);
    seenVisits = visits;
    isFirst = false;
  }, [path]);
  return (
    <>
      <Header />
      <Banner />
      <main id="content" tabIndex={-1}>
        <View />
      </main>
      <Notice />
      <OrderDialog />
      <HelpDialog />
    </>
  );
}
