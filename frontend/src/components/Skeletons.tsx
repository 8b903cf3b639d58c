/** While the first snapshot is on its way: blocks of the size of what will stand there. */
export function OverviewSkeleton() {
  return (
    <div className="grid" role="status" aria-label="loading">
      <div className="skeleton" style={{ height: 140 }} />
      <div className="skeleton" style={{ height: 112 }} />
      <div className="skeleton" style={{ height: 330 }} />
    </div>
  );
}
