import { Drawer, Modal } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import type { ReactNode } from "react";

interface SheetProps {
  title: string;
  opened: boolean;
  onClose: () => void;
  children: ReactNode;
}

/** A dialog in the middle; below 720 px a drawer at the foot. */
export function Sheet({ title, opened, onClose, children }: SheetProps) {
  const narrow = useMediaQuery("(max-width: 720px)", false, { getInitialValueInEffect: false });
  const shared = { title, opened, onClose, closeButtonProps: { "aria-label": "Close" } };
  return narrow ? (
    <Drawer {...shared} position="bottom" transitionProps={{ duration: 160 }}>
      {children}
    </Drawer>
  ) : (
    <Modal {...shared} centered size={640} transitionProps={{ duration: 120 }}>
      {children}
    </Modal>
  );
}
